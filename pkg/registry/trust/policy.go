package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containr/containr/pkg/image"
)

// Policy says what is wanted of images, by their names. A nil *Policy wants nothing.
type Policy struct {
	file       string
	standard   []Requirement            // what holds where no scope does
	registries map[string][]Requirement // by scope; "" is all
}

// ErrPolicy says that a policy forbids an image.
var ErrPolicy = errors.New("the policy does not allow it")

// ErrPolicyFile says that a policy cannot be read.
var ErrPolicyFile = errors.New("the policy of signatures cannot be used")

// Usual lists the files in which a policy is looked for: the first that exists counts.
func Usual() []string {
	files := []string{"/etc/containers/policy.json"}
	config := os.Getenv("XDG_CONFIG_HOME")
	if home := os.Getenv("HOME"); !filepath.IsAbs(config) && filepath.IsAbs(home) {
		config = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(config) {
		files = append([]string{filepath.Join(config, "containers", "policy.json")}, files...)
	}
	return files
}

// maxPolicy bounds a file, in bytes.
const maxPolicy = 4 << 20

// Load reads the first file that exists; without one there is no policy. The error wraps ErrPolicyFile.
func Load(files []string) (*Policy, error) {
	for _, file := range files {
		info, err := os.Stat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var p *Policy
		if err == nil && info.Size() > maxPolicy {
			err = fmt.Errorf("it is larger than %d bytes", maxPolicy)
		}
		if err == nil {
			p, err = read(file)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPolicyFile, file, err)
		}
		return p, nil
	}
	return nil, nil
}

// read reads a file. Unknown words are errors.
func read(file string) (*Policy, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var document struct {
		Default    []Requirement                       `json:"default"`
		Transports map[string]map[string][]Requirement `json:"transports"`
	}
	if err := strictly(data, &document); err != nil {
		return nil, err
	}
	p := &Policy{file: file, standard: document.Default, registries: document.Transports["docker"]}
	if len(p.standard) == 0 {
		return nil, errors.New("it has no default")
	}
	for scope, requirements := range p.registries {
		if len(requirements) == 0 {
			return nil, fmt.Errorf("scope %q has no requirement", scope)
		}
	}
	return p, nil
}

// strictly decodes JSON that must have no unknown field, and nothing after it.
func strictly(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is more after the document")
	}
	return nil
}

// File returns where the policy was read.
func (p *Policy) File() string { return p.file }

// For returns what is wanted of an image.
func (p *Policy) For(ref image.Reference) []Requirement {
	if p == nil {
		return nil
	}
	for _, scope := range scopes(ref) {
		if r, ok := p.registries[scope]; ok {
			return r
		}
	}
	return p.standard
}

// scopes lists the scopes that a name is in, the narrowest first: the name, the repository, each directory of it, the
// registry, the domains that it is in as *.example.com, and all.
func scopes(ref image.Reference) []string {
	all := []string{ref.String()}
	for path := ref.Name(); ; path = path[:strings.LastIndexByte(path, '/')] {
		all = append(all, path)
		if !strings.Contains(path, "/") {
			break
		}
	}
	host, _, _ := strings.Cut(ref.Domain, ":")
	for {
		_, parent, ok := strings.Cut(host, ".")
		if !ok {
			return append(all, "")
		}
		all = append(all, "*."+parent)
		host = parent
	}
}
