package plan

// Kind says what an argument is, and with it how it is lowered to the child's
// memory and how it is written for a reader.
type Kind uint8

const (
	// Int is a plain number.
	Int Kind = iota
	// Octal is a number that people write in octal: a file mode.
	Octal
	// Hex is a number that people write in hexadecimal.
	Hex
	// Device is a device number in the kernel's 32-bit encoding, see makedev(3).
	Device
	// FlagBits is a number whose bits Names explains.
	FlagBits
	// Enum is a number that Names lists as a whole.
	Enum
	// Text is a pointer to a string with a closing NUL.
	Text
	// Bytes is a pointer to Text's bytes, as they are.
	Bytes
	// Vector is a pointer to a NULL-terminated array of pointers to strings.
	Vector
	// Struct is a pointer to List, laid out in order by each member's Size.
	Struct
	// Out is a pointer to Num zero bytes that the kernel fills.
	Out
	// RegArg is the value of the register named Text.
	RegArg
	// RegAddr is the address of the register named Text.
	RegAddr
	// RegHome, a Struct's member, is where the register named Text lives: the
	// kernel fills it.
	RegHome
	// Null is the null pointer.
	Null
)

// Arg is one argument of a call, or one member of a kernel structure.
type Arg struct {
	Kind Kind
	// Size is the number of bytes of a Struct member: 1, 2, 4 or 8; 0 means 8.
	Size uint8
	// Num is the number, or an Out buffer's size.
	Num uint64
	// Text is the string, the bytes or the register's name.
	Text string
	// Label is the member's name in a Struct, for the reader.
	Label string
	// List holds a Struct's members.
	List []Arg
	// Words holds a Vector's strings.
	Words []string
	// Names explains FlagBits and Enum.
	Names *Names
}

// Names says how a number is written in C.
type Names struct {
	// Zero is what 0 is called; empty means "0".
	Zero string
	// List is walked in order; for flags, a name of several bits must stand
	// before the names of its parts.
	List []Name
}

// Name is one constant.
type Name struct {
	Value uint64
	Name  string
}

// Number makes an Int argument.
func Number[T ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64](n T) Arg {
	return Arg{Kind: Int, Num: uint64(n)}
}

// Mode makes an Octal argument.
func Mode(m uint32) Arg { return Arg{Kind: Octal, Num: uint64(m)} }

// Flags makes a FlagBits argument.
func Flags(bits uint64, names *Names) Arg { return Arg{Kind: FlagBits, Num: bits, Names: names} }

// OneOf makes an Enum argument.
func OneOf(n uint64, names *Names) Arg { return Arg{Kind: Enum, Num: n, Names: names} }

// String makes a Text argument.
func String(s string) Arg { return Arg{Kind: Text, Text: s} }

// Blob makes a Bytes argument.
func Blob(b string) Arg { return Arg{Kind: Bytes, Text: b} }

// Strings makes a Vector argument.
func Strings(v []string) Arg { return Arg{Kind: Vector, Words: v} }

// Pointer makes a Struct argument out of its members.
func Pointer(members ...Arg) Arg { return Arg{Kind: Struct, List: members} }

// Buffer makes an Out argument of n bytes.
func Buffer(n int) Arg { return Arg{Kind: Out, Num: uint64(n)} }

// Value makes a RegArg argument.
func Value(r Reg) Arg { return Arg{Kind: RegArg, Text: string(r)} }

// Address makes a RegAddr argument.
func Address(r Reg) Arg { return Arg{Kind: RegAddr, Text: string(r)} }

// Home makes a RegHome member.
func Home(r Reg) Arg { return Arg{Kind: RegHome, Text: string(r)} }

// Nil is the null pointer.
var Nil = Arg{Kind: Null}

// Member gives an argument its place in a Struct.
func (a Arg) Member(label string, size uint8) Arg {
	a.Label, a.Size = label, size
	return a
}
