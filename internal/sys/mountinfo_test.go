package sys

import "testing"

func TestUnescapeMount(t *testing.T) {
	for escaped, want := range map[string]string{
		"/plain": "/plain", `/a\040b`: "/a b", `/tab\011`: "/tab\t", `/line\012`: "/line\n", `/back\134slash`: `/back\slash`,
		`/\1340\040`: `/\0 `, `/end\04`: `/end\04`, `/no\999`: `/no\999`, "": "",
	} {
		if got := UnescapeMount(escaped); got != want {
			t.Errorf("%q: %q, want %q", escaped, got, want)
		}
	}
}
