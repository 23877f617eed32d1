package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// monitor speaks QEMU's machine protocol (docs/interop/qmp-spec.rst): JSON objects; a greeting, then for each command
// an answer, and events in between.
type monitor struct {
	conn *os.File
	dec  *json.Decoder
	// migrated is the last word on a saved or resumed machine: "completed", "failed", ...
	migrated string
}

type qmpMessage struct {
	Greeting *json.RawMessage `json:"QMP"`
	Return   *json.RawMessage `json:"return"`
	Error    *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Status string `json:"status"`
	} `json:"data"`
}

// newMonitor greets, and asks to be told how saving and resuming go on.
func newMonitor(conn *os.File) (*monitor, error) {
	m := &monitor{conn: conn, dec: json.NewDecoder(conn)}
	if _, err := m.next(); err != nil {
		return nil, err
	}
	if err := m.do("qmp_capabilities", nil); err != nil {
		return nil, err
	}
	events := map[string]any{"capability": "events", "state": true}
	return m, m.do("migrate-set-capabilities", map[string]any{"capabilities": []any{events}})
}

// next returns the next message and takes note of events.
func (m *monitor) next() (qmpMessage, error) {
	var msg qmpMessage
	err := m.dec.Decode(&msg)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if msg.Event == "MIGRATION" {
		m.migrated = msg.Data.Status
	}
	return msg, err
}

// do executes one command.
func (m *monitor) do(command string, args any) error {
	request := map[string]any{"execute": command}
	if args != nil {
		request["arguments"] = args
	}
	b, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := m.conn.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("monitor: %s: %w", command, err)
	}
	for {
		msg, err := m.next()
		switch {
		case err != nil:
			return fmt.Errorf("monitor: %s: %w", command, err)
		case msg.Error != nil:
			return fmt.Errorf("monitor: %s: %s", command, msg.Error.Desc)
		case msg.Return != nil:
			return nil
		}
	}
}

// untilMigrated waits for the end of a migration, in or out.
func (m *monitor) untilMigrated() error {
	for {
		switch m.migrated {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("monitor: migration %s", m.migrated)
		}
		if _, err := m.next(); err != nil {
			return fmt.Errorf("monitor: migration: %w", err)
		}
	}
}
