package runtime

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/internal/sys"
)

// noStatus is what an exit file holds while the container runs. It takes the place
// that the keeper will need, so that a disk that is full by then does not matter.
var noStatus = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ReadExit reads the exit status that a container's keeper has left: the program's, or
// 128 and the number of the signal that ended it. It fails when the keeper has not
// written it: the container runs, or the keeper was killed.
func ReadExit(path string) (int, error) {
	text, err := sys.ReadFile(path, 8)
	if err != nil {
		return 0, err
	}
	if len(text) != len(noStatus) || bytes.Equal(text[:4], noStatus[:4]) {
		return 0, fmt.Errorf("%s: the exit status is not there", path)
	}
	status := unix.WaitStatus(binary.LittleEndian.Uint32(text))
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}
