package cli

import (
	"strings"
	"testing"
)

// TestCommandsAmongIDsAreCommands: each name in the list is that of a command.
func TestCommandsAmongIDsAreCommands(t *testing.T) {
	root := new(Program).NewRoot()
	for path := range amongIDs {
		cmd, rest, err := root.Find(strings.Fields(path)[1:])
		if err != nil || len(rest) > 0 || cmd.CommandPath() != path {
			t.Errorf("%s: found %s, error %v", path, cmd.CommandPath(), err)
		}
	}
}
