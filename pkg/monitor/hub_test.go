package monitor

import (
	"bufio"
	"net"
	"testing"
)

// Who does not keep up misses output, but neither how much that was nor the end.
func TestWhoIsSlowIsToldWhatHeMissed(t *testing.T) {
	const frames, size, code = waiting + 44, 10, 7
	quick, slow := newClient(), newClient()
	h := &hub{clients: map[*client]bool{quick: true, slow: true}}
	got := map[Kind]int{}
	for range frames {
		h.send(StdoutFrame, make([]byte, size))
		got[Kind((<-quick.frames)[0])]++
	}
	if got[StdoutFrame] != frames {
		t.Errorf("who keeps up got %v", got)
	}
	h.end(code)
	var last, before []byte
	n := 0
	for f := range slow.frames {
		before, last = last, f
		n++
	}
	if n != waiting+2 {
		t.Errorf("%d frames, want %d of output, and two", n, waiting)
	}
	if Kind(before[0]) != MissedFrame || Number(before[5:]) != 44*size {
		t.Errorf("what was missed: kind %d, %d bytes, want %d", before[0], Number(before[5:]), 44*size)
	}
	if Kind(last[0]) != EndFrame || Number(last[5:]) != code {
		t.Errorf("the last frame is of kind %d, with number %d", last[0], Number(last[5:]))
	}
}

func TestWhoCatchesUpIsToldWhatHeMissed(t *testing.T) {
	slow := newClient()
	h := &hub{clients: map[*client]bool{slow: true}}
	for range waiting + 1 {
		h.send(StderrFrame, []byte("x"))
	}
	for range waiting {
		<-slow.frames
	}
	h.send(StderrFrame, []byte("y"))
	if f := <-slow.frames; Kind(f[0]) != MissedFrame || Number(f[5:]) != 1 {
		t.Errorf("first comes what was missed, not %v", f)
	}
	if f := <-slow.frames; Kind(f[0]) != StderrFrame || string(f[5:]) != "y" {
		t.Errorf("then what is new, not %v", f)
	}
}

// What the monitor sends is what a client reads, to the end.
func TestFramesOverTheSocket(t *testing.T) {
	const id, code = "c1", 3
	m := &Monitor{adopted: map[string]bool{}, hubs: map[string]*hub{}, stays: t.Context()}
	ours, theirs := net.Pipe()
	go func() {
		m.attach(theirs, id, false)
		theirs.Close()
	}()
	in := bufio.NewReader(ours)
	if answer, err := in.ReadString('\n'); answer != protocol+" ok\n" || err != nil {
		t.Fatalf("%q, %v", answer, err)
	}
	a := &Attachment{conn: ours, in: in}
	defer a.Close()
	h := m.hub(id, nil)
	h.send(StdoutFrame, []byte("out"))
	h.send(StderrFrame, []byte("err"))
	h.end(code)
	for _, want := range []struct {
		kind Kind
		text string
	}{{StdoutFrame, "out"}, {StderrFrame, "err"}} {
		if kind, data, err := a.Next(); kind != want.kind || string(data) != want.text || err != nil {
			t.Errorf("%d %q, %v, want %d %q", kind, data, err, want.kind, want.text)
		}
	}
	if kind, data, err := a.Next(); kind != EndFrame || Number(data) != code || err != nil {
		t.Errorf("%d %v, %v, want the end", kind, data, err)
	}
	if _, _, err := a.Next(); err == nil {
		t.Error("something follows the end")
	}
}
