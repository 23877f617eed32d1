package engine

import (
	"strings"

	"github.com/containr/containr/internal/baseimage"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/secret"
)

// ContainerNames lists the names of all containers, the newest first.
func (e *Engine) ContainerNames() ([]string, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	return namesOf(len(records), func(i int) string { return records[i].Name }), err
}

// ImageNames lists the names of all images as people type them: without docker.io/library, and without the tag if that is
// latest. The built-in image is among them.
func (e *Engine) ImageNames() ([]string, error) {
	names := []string{familiar(baseimage.Name)}
	listed, err := e.Images()
	for _, l := range listed {
		if l.Name != "" && familiar(l.Name) != names[0] {
			names = append(names, familiar(l.Name))
		}
	}
	return names, err
}

// NetworkNames lists the names of all networks.
func (e *Engine) NetworkNames() ([]string, error) {
	listed, err := e.Networks()
	return namesOf(len(listed), func(i int) string { return listed[i].Name }), err
}

// VolumeNames lists the names of all volumes.
func (e *Engine) VolumeNames() ([]string, error) {
	store, err := e.volumes()
	if err != nil {
		return nil, err
	}
	listed, err := store.List()
	return namesOf(len(listed), func(i int) string { return listed[i].Name }), err
}

// SecretNames lists the names of all secrets, or of all configs.
func (e *Engine) SecretNames(kind *secret.Kind) ([]string, error) {
	store, err := e.kept(kind)
	if err != nil {
		return nil, err
	}
	listed, err := store.List()
	return namesOf(len(listed), func(i int) string { return listed[i].Name }), err
}

// namesOf lists n names.
func namesOf(n int, name func(i int) string) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = name(i)
	}
	return names
}

func familiar(name string) string {
	ref, err := image.ParseReference(name)
	if err != nil {
		return name
	}
	return strings.TrimSuffix(ref.Familiar(), ":latest")
}
