package container

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestSecurityOptionsRoundTrip: what an inspected container tells can be given to another one, and means the same.
func TestSecurityOptionsRoundTrip(t *testing.T) {
	options := []string{"apparmor=mine", "label=disable", "label=type:t", "landlock=/srv:/tmp", "no-new-privileges", "seccomp=strict", "systempaths=unconfined"}
	var s, again Security
	for _, o := range options {
		if err := s.Set(o); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(s.Options(), options) {
		t.Errorf("%q, want %q", s.Options(), options)
	}
	for _, o := range s.Options() {
		if err := again.Set(o); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(s, again) {
		t.Errorf("%+v, want %+v", again, s)
	}
}

func TestSecurityOptionsAreRefusedInWords(t *testing.T) {
	for option, want := range map[string]string{
		"seccomp=": "use seccomp=default", "seccomp": "use seccomp=default", "seccomp=none": "did you mean seccomp=unconfined?",
		"seccmp=strict": "did you mean seccomp?", "apparmor": "apparmor=PROFILE", "label=": "label=disable", "systempaths": "systempaths=unconfined",
	} {
		if err := new(Security).Set(option); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", option, err, want)
		}
	}
}

// TestLandlockIsAskedBefore: what the kernel cannot do is refused with its reason, before anything is made; who does not want it is
// not troubled.
func TestLandlockIsAskedBefore(t *testing.T) {
	without := Machine{NoLandlock: "this kernel has no Landlock"}
	err := validateSecurity(Security{Landlock: []string{"/srv", "/tmp"}}, without)
	if !errors.Is(err, ErrNoLandlock) || !strings.Contains(err.Error(), "--security-opt landlock=/srv:/tmp: this kernel has no Landlock: ") {
		t.Errorf("error %v", err)
	}
	if err := validateSecurity(Security{}, without); err != nil {
		t.Errorf("not asked for: %v", err)
	}
	if err := validateSecurity(Security{Landlock: []string{"/srv"}}, Machine{}); err != nil {
		t.Errorf("where there is one: %v", err)
	}
}
