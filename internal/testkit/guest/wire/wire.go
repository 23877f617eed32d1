// Package wire is what the host side of a guest and its agent agree on: the configuration that the host puts into the
// initramfs, and the frames that they send each other.
//
// # Theory of operation
//
// Boot is a file of the initramfs, which is the same whatever the guest is for. All else goes through a virtio serial
// port named Port, as frames: a kind, a length, a payload. The guest says Hello when it is up. At this moment the host
// may save the machine, and resume it later as often as it likes; so nothing that belongs to one run may come before.
// The host then sends Files, a cpio archive, and Job. The guest answers with Stdout and Stderr as the program writes, a
// Tar stream with the files asked for, and at last Exit. The host ends the machine when it has read Exit, so the agent
// has nothing to do after it. Kernel messages do not come this way: they are on the serial console.
package wire

import (
	"bytes"
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
	// BootPath is where Boot is in the initramfs, as JSON.
	BootPath = "/etc/guest.boot"
	// PolicyPath is where the source of a SELinux policy is, if there is one.
	PolicyPath = "/etc/guest.cil"
	// ModuleDir holds the module files.
	ModuleDir = "/lib/modules"
)

// Boot says how the guest's init brings the machine up.
type Boot struct {
	// Load are the modules to load at boot, by name; the others are there for the kernel to ask for.
	Load    []string
	Modules Modules
	// Disk says that a whole Debian is on the disk /dev/vda, whose init is to be process 1; otherwise the initramfs is
	// all there is.
	Disk bool
}

// Job says what the guest's agent runs.
type Job struct {
	Argv []string
	Env  []string
	Dir  string // working directory
	// Now sets the clock, which is that of the moment when the machine was saved.
	Now time.Time
	// Seed makes the random numbers of this run others than those of the next one from the same saved machine.
	Seed []byte
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

// Encode returns the job as its frame holds it: in gob, because JSON would not keep arguments that are not UTF-8.
func (j Job) Encode() ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(j)
	return b.Bytes(), err
}

// DecodeJob reads what Encode made.
func DecodeJob(b []byte) (Job, error) {
	var j Job
	err := gob.NewDecoder(bytes.NewReader(b)).Decode(&j)
	return j, err
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
	Files  Kind = 'f' // from the host: the next piece of a cpio archive; an empty payload ends it
	Run    Kind = 'j' // from the host: Job
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
