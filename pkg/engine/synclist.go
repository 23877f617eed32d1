package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry"
)

// syncList is skopeo's list of images: for each registry what is wanted of which repositories.
type syncList map[string]syncRegistry

type syncRegistry struct {
	// Images has the tags and digests of each repository; none means all tags.
	Images map[string][]string `yaml:"images"`
	// ByRegexp has an expression for each repository, which tags must match.
	ByRegexp    map[string]string `yaml:"images-by-tag-regex"`
	Credentials struct {
		Username string `yaml:"username"`
		Password string `yaml:"password"`
	} `yaml:"credentials"`
	TLSVerify *bool  `yaml:"tls-verify"`
	CertDir   string `yaml:"cert-dir"`
}

// maxSyncList bounds the file, in bytes.
const maxSyncList = 4 << 20

// readSyncList reads the file. What it does not know it refuses: images would be missing silently.
func readSyncList(file string) (list syncList, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSyncList+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSyncList {
		return nil, fmt.Errorf("list %s: %w: more than %d bytes", file, ErrSync, maxSyncList)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list %s: %w: %s", file, ErrSync, yamlReason(err))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("list %s: %w: it names no registry", file, ErrSync)
	}
	return list, nil
}

// yamlReason is what the decoder found, on one line and without names of Go.
func yamlReason(err error) string {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	return strings.NewReplacer("field ", "key ", " not found in type engine.syncRegistry", " is not known").Replace(strings.Join(wrong.Errors, "; "))
}

// access is how the registry is reached, if the list says that.
func (r syncRegistry) access(a RegistryAccess) *RegistryAccess {
	if r.TLSVerify != nil {
		a.Insecure = !*r.TLSVerify
	}
	if r.Credentials.Username != "" {
		a.Credential = &registry.Credential{Username: r.Credentials.Username, Password: r.Credentials.Password}
	}
	a.CertDir = r.CertDir
	return &a
}

// listed are the images of the list, by the names of registries and repositories.
func (e *Engine) listed(ctx context.Context, list syncList, a RegistryAccess) (items []syncItem, err error) {
	for _, domain := range slices.Sorted(maps.Keys(list)) {
		r := list[domain]
		access := r.access(a)
		for _, repository := range slices.Sorted(maps.Keys(r.Images)) {
			more, err := e.listedImages(ctx, domain+"/"+repository, r.Images[repository], access)
			if err != nil {
				return nil, err
			}
			items = append(items, more...)
		}
		for _, repository := range slices.Sorted(maps.Keys(r.ByRegexp)) {
			expression, err := regexp.Compile(r.ByRegexp[repository])
			if err != nil {
				return nil, fmt.Errorf("images-by-tag-regex of %s/%s: %w: %w", domain, repository, ErrSync, err)
			}
			ref, err := parseRepository(domain + "/" + repository)
			if err != nil {
				return nil, err
			}
			more, err := e.allTags(ctx, ref, access, a, expression.MatchString)
			if err != nil {
				return nil, err
			}
			items = append(items, more...)
		}
	}
	return items, nil
}

// listedImages are those with some tags or digests, or all of a repository.
func (e *Engine) listedImages(ctx context.Context, repository string, selectors []string, access *RegistryAccess) (items []syncItem, err error) {
	ref, err := parseRepository(repository)
	if err != nil {
		return nil, err
	}
	if len(selectors) == 0 {
		return e.allTags(ctx, ref, access, *access, func(string) bool { return true })
	}
	for _, s := range selectors {
		if d, err := image.ParseDigest(s); err == nil {
			ref.Tag, ref.Digest = "", d
		} else if image.IsTag(s) {
			ref.Tag, ref.Digest = s, ""
		} else {
			return nil, fmt.Errorf("%s: %w: %q is neither a tag nor a digest", repository, ErrSync, s)
		}
		items = append(items, itemOf(ref, access))
	}
	return items, nil
}
