
static u32 __used tarpit_fault_sparse(__be32 seq)
{
	return seq + 1;
}
