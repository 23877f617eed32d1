package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containr/containr/internal/testkit"
)

// packageTrees returns for each package the directory in the cache that holds its files and those of all packages
// that it depends on, fetching what is not there. The error is an ErrUnavailable when a package cannot be had.
func packageTrees(names []string, arch string) ([]string, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	lock, err := testkit.Lock(filepath.Join(cache, "lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	var trees []string
	var a *archive
	for _, name := range names {
		dir := filepath.Join(cache, "packages", arch, name)
		trees = append(trees, dir)
		if isDir(dir) {
			continue
		}
		if a == nil {
			if a, err = openArchive(cache, userland, arch); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
		}
		if err := fetchPackage(a, name, dir); err != nil {
			return nil, fmt.Errorf("%w: package %s: %w", ErrUnavailable, name, err)
		}
	}
	return trees, nil
}

// fetchPackage lets apt find and fetch the package and its dependencies, as if on an empty machine, and unpacks them
// to dir, which appears by a rename.
func fetchPackage(a *archive, name, dir string) error {
	debs := filepath.Join(a.dir, "cache/archives")
	_, err := a.run("apt-get", "--yes", "--download-only", "--no-install-recommends", "-o", "Debug::NoLocking=true", "install", name)
	if err != nil {
		return err
	}
	found, err := filepath.Glob(debs + "/*.deb")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	for _, deb := range found {
		if err := unpack(deb, tmp, isNeeded); err != nil {
			return err
		}
		if err := os.Remove(deb); err != nil {
			return err
		}
	}
	return os.Rename(tmp, dir)
}

// unneeded are the parts of packages that no program reads when it runs.
var unneeded = []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian",
	"usr/share/bug", "usr/lib/x86_64-linux-gnu/gconv", "usr/lib/aarch64-linux-gnu/gconv"}

func isNeeded(name string) bool {
	return !slices.ContainsFunc(unneeded, func(dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") })
}
