package ocicli

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// Nothing of the specification's features document is left out: not a single part of
// it is empty, also in versions to come.
func TestFeaturesAreComplete(t *testing.T) {
	var out, errs bytes.Buffer
	if code := Main([]string{"features"}, os.Stdin, &out, &errs); code != 0 {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	f := new(features.Features)
	if err := json.Unmarshal(out.Bytes(), f); err != nil {
		t.Fatal(err)
	}
	checkFilled(t, reflect.ValueOf(f).Elem(), "")
	if len(f.Hooks) != 6 {
		t.Errorf("hooks %v", f.Hooks)
	}
}

func checkFilled(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	for i := range v.NumField() {
		name, f := path+"/"+v.Type().Field(i).Name, v.Field(i)
		if f.IsZero() {
			t.Errorf("%s is empty", name)
			continue
		}
		if f.Kind() == reflect.Pointer {
			f = f.Elem()
		}
		switch f.Kind() {
		case reflect.Struct:
			checkFilled(t, f, name)
		case reflect.Slice, reflect.Map:
			if f.Len() == 0 {
				t.Errorf("%s is empty", name)
			}
		}
	}
}

// podman finds out about checkpoints by asking for help, others by an annotation.
func TestCheckpointsAreAnnounced(t *testing.T) {
	for _, verb := range []string{"checkpoint", "restore"} {
		var out, errs bytes.Buffer
		if code := Main([]string{verb, "--help"}, os.Stdin, &out, &errs); code != 0 || !strings.Contains(out.String(), "image-path") {
			t.Errorf("%s --help: exit code %d, %q and %q", verb, code, out.String(), errs.String())
		}
	}
	var out, errs bytes.Buffer
	if Main([]string{"features"}, os.Stdin, &out, &errs); !strings.Contains(out.String(), `"org.opencontainers.runc.checkpoint.enabled": "true"`) {
		t.Errorf("features say nothing of checkpoints: %s", out.String())
	}
}
