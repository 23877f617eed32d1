package snapshot

import "testing"

func TestSmoke(t *testing.T) {
	needRoot(t)
	s := open(t, Options{})
	base := archive(t, dir("a", 0o755), reg("a/f", "hello"), reg("a/g", "x"), symlink("lib", "a"), reg("big", string(make([]byte, 3<<20))))
	top := archive(t, reg("lib/new", "n"), whiteout("a/.wh.g"), hardlink("b", "a/f"))
	c := unpack(t, s, base, top)
	t.Log("\n" + lines(mounted(t, s, c)))
	t.Log("\n" + lines(viewed(t, s, c)))
	n := open(t, Options{Native: true})
	c = unpack(t, n, base, top)
	t.Log("\n" + lines(viewed(t, n, c)))
}
