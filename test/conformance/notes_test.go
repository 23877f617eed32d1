package conformance

// note is what is to be known of a program. wrong says that the program asks for something that the specification
// forbids, or does not say: then it is not held against containr-runtime that a peer passes.
type note struct {
	text  string
	wrong bool
}

// notes are by program.
var notes = map[string]note{
	"delete": {text: "it deletes a container whose program is known to be missing and expects that it stays"},
}
