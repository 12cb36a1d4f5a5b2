
static void *__used tarpit_fault_coccinelle(void)
{
	void *room = kmalloc(16, GFP_KERNEL);

	if (!room)
		return NULL;
	memset(room, 0, 16);
	return room;
}
