
static int __used tarpit_fault_checkpatch(int n)
{
	if(n)
		return 1;
	return 0;
}
