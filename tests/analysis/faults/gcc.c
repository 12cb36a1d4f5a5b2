
struct tarpit_fault_pair {
	int first;
	int second;
};

static int __used tarpit_fault_gcc(const struct tarpit_fault_pair *given, int n)
{
	const struct tarpit_fault_pair *chosen = n ? given : NULL;

	return chosen->second;
}
