
static int __used tarpit_fault_gcc(const int *given, int n)
{
	const int *chosen = n > 7 ? given : NULL;

	if (n > 3)
		return 0;
	return *chosen;
}
