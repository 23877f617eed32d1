package ocicli

// growStack has the stack of its caller grow, once, to what a verb needs. Else it would
// be doubled four times on the way, and each time Go copies it and looks up where the
// pointers in its frames are, which is a fiftieth of the time of a run.
//
// A stack grows by what the function that is called might need. The room is never used,
// and so costs no memory.
//
//go:noinline
func growStack(use bool) {
	if use {
		var room [stackRoom]byte
		touch(&room)
	}
}

// stackRoom is in bytes; with it the stack becomes one of 32 KB.
const stackRoom = 24 << 10

//go:noinline
func touch(*[stackRoom]byte) {}
