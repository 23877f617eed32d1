// Package wire is what the host side of a guest and its init process agree on: the configuration that the host puts
// into the initramfs, and the frames that init sends back.
//
// # Theory of operation
//
// The host to guest direction is one file, Config, read before anything else. The guest to host direction is a
// stream of frames through a virtio serial port named Port: a kind, a length, a payload. First comes Hello; then
// Stdout and Stderr as the program writes, a Tar stream with the files asked for, and at last Exit. The host ends
// the machine when it has read Exit, so init has nothing to do after it. Kernel messages do not come this way: they
// are on the serial console.
package wire

import (
	"encoding/binary"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

const (
	// Port is the name of the virtio serial port.
	Port = "containr"
	// ConfigPath is where the configuration is in the guest.
	ConfigPath = "/etc/guest.config"
	// ModuleDir holds the module files.
	ModuleDir = "/lib/modules"
)

// Config says what the guest's init does.
type Config struct {
	Argv []string
	Env  []string
	Dir  string // working directory
	// Now sets the clock if the machine has none.
	Now time.Time
	// Load are the modules to load at boot, by name; the others are there for the kernel to ask for.
	Load    []string
	Modules Modules
	// Out are files and directories to send back when the program has ended; what is not there is left out.
	Out []string
}

// Modules is what modprobe(8) would read from modules.dep and modules.alias.
type Modules struct {
	// Needs maps each module, by name with underscores, to those that it needs directly. Its file is NAME.ko.
	Needs map[string][]string
	// Aliases maps what the kernel asks for ("fs-overlay", "rtnl-link-veth") to module names.
	Aliases map[string][]string
}

// Encode writes the configuration as its file holds it: in gob, because JSON would not keep arguments that are not
// UTF-8.
func (c Config) Encode(w io.Writer) error { return gob.NewEncoder(w).Encode(c) }

// DecodeConfig reads what Encode wrote.
func DecodeConfig(r io.Reader) (Config, error) {
	var c Config
	err := gob.NewDecoder(r).Decode(&c)
	return c, err
}

// Resolve returns the modules to load, in order, for a module name or an alias; none if it is neither.
func (m Modules) Resolve(name string) []string {
	var order []string
	seen := map[string]bool{}
	var visit func(string)
	visit = func(n string) {
		if _, ok := m.Needs[n]; !ok || seen[n] {
			return
		}
		seen[n] = true
		for _, dep := range m.Needs[n] {
			visit(dep)
		}
		order = append(order, n)
	}
	visit(name)
	for _, n := range m.Aliases[name] {
		visit(n)
	}
	return order
}

// Kind is the first byte of a frame.
type Kind byte

// The frames, in the order in which they may come.
const (
	Hello  Kind = 'h' // JSON Greeting
	Stdout Kind = 'o' // bytes
	Stderr Kind = 'e' // bytes
	Tar    Kind = 't' // the next piece of a tar archive; an empty payload ends it
	Exit   Kind = 'x' // JSON Status
)

// Greeting tells that the machine is up.
type Greeting struct {
	Release string // of the kernel
	// Warnings are what did not work on the way up but need not matter: a module that would not load.
	Warnings []string `json:",omitempty"`
}

// Status tells how the program ended.
type Status struct {
	Code  int    // exit code, or 128 and the signal number
	Error string `json:",omitempty"` // why the program could not be run or its files not be sent; Code is then 125
}

// maxPayload bounds a frame: a longer one is a broken stream.
const maxPayload = 1 << 20

// Write sends one frame.
func Write(w io.Writer, k Kind, payload []byte) error {
	frame := append([]byte{byte(k), 0, 0, 0, 0}, payload...)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	_, err := w.Write(frame)
	return err
}

// WriteJSON sends one frame with v as JSON.
func WriteJSON(w io.Writer, k Kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return Write(w, k, b)
}

// Read receives one frame. io.EOF is the end between two frames.
func Read(r io.Reader) (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxPayload {
		return 0, nil, fmt.Errorf("guest frame %q of %d bytes: too long", head[0], n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("guest frame %q of %d bytes: %w", head[0], n, io.ErrUnexpectedEOF)
	}
	return Kind(head[0]), payload, nil
}
