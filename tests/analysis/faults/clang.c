
static int __used tarpit_fault_clang(int n)
{
	int parts = n > 7 ? n : 0;

	if (n > 3)
		return 0;
	return 100 / parts;
}
