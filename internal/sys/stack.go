package sys

// GrowStack has the stack of its caller grow, once, to 32 KB, which is what starting a
// container takes. Else it would be doubled four times on the way, and each time Go
// copies it and looks up where the pointers in its frames are: a fiftieth of the time of
// a run. It is to be called where there is little on the stack.
//
// A stack grows by what the function that is called might need. The room is never used,
// and so costs no memory.
func GrowStack() { needRoom(false) }

//go:noinline
func needRoom(use bool) {
	if use {
		var room [stackRoom]byte
		touch(&room)
	}
}

const stackRoom = 24 << 10 // bytes

//go:noinline
func touch(*[stackRoom]byte) {}
