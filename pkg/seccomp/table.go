package seccomp

//go:generate go run ./internal/mktable -o table_generated.go

// callRow is one row of the generated table.
type callRow struct {
	number [archCount]uint16 // by Arch-1; noCall where the ABI lacks the call
	mux    uint8             // muxSocket or muxIPC with the sub-call, or 0
}

const (
	// noCall marks a call that an ABI does not have.
	noCall = 0xffff

	// muxSocket and muxIPC mark calls that 32-bit x86 also offers as
	// socketcall(n, ...) and ipc(n, ...); n is in the low bits.
	muxSocket = 0x40
	muxIPC    = 0x80
	muxNumber = 0x3f

	i386Socketcall = 102
	i386IPC        = 117
)

// ARM has a few calls of its own far above all others. The generated table
// keeps call 0x0f0000+n as 0xf000+n, to fit 16 bits.
const (
	armPrivateBase = 0x0f0000
	armPrivateMark = 0xf000
)

// callName returns the i-th name of the table.
func callName(i int) string { return callNames[callStart[i]:callStart[i+1]] }

// findCall returns the row of a name in the generated table. It looks near
// hint first, in steps that double, and halves the span once it has passed the
// name: a policy lists its names in alphabetical order more often than not, so
// with the last row as the hint two or three comparisons are enough, and
// nothing is lost on a policy that does not.
func findCall(name string, hint int) (row int, ok bool) {
	low, high := 0, callCount // name is in rows [low, high) if anywhere
	if hint < callCount && callName(hint) <= name {
		low = hint
		for step := 1; low+step < callCount; step *= 2 {
			if callName(low+step) > name {
				high = low + step
				break
			}
			low += step
		}
	} else {
		high = min(hint, callCount)
	}
	for high-low > 1 {
		mid := int(uint(low+high) / 2)
		if callName(mid) <= name {
			low = mid
		} else {
			high = mid
		}
	}
	return low, callName(low) == name
}

// Number returns the number by which this ABI knows a system call, as the
// kernel shows it to a filter (x32 numbers include their bit). It reports
// false for a name that the ABI lacks.
func (a Arch) Number(name string) (uint32, bool) {
	row, ok := findCall(name, 0)
	if !ok || !a.valid() {
		return 0, false
	}
	number := callNumbers[row].number[a-1]
	if number == noCall {
		return 0, false
	}
	return a.full(number), true
}

// Name returns the name of a system call number of this ABI, and false if the
// table has none. Where two names share a number it is the alphabetically
// first.
func (a Arch) Name(number uint32) (string, bool) {
	if !a.valid() {
		return "", false
	}
	for i := range callNumbers {
		if n := callNumbers[i].number[a-1]; n != noCall && a.full(n) == number {
			return callName(i), true
		}
	}
	return "", false
}

// full turns a number of the generated table into one the kernel uses.
func (a Arch) full(number uint16) uint32 {
	switch {
	case a == X32:
		return x32Bit | uint32(number)
	case a == ARM && number >= armPrivateMark:
		return armPrivateBase | uint32(number&^armPrivateMark)
	}
	return uint32(number)
}
