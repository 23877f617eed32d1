// Package apparmor brings the AppArmor profile of containers that name none.
//
// # Theory of operation
//
// A profile is loaded into the kernel once for each boot, by apparmor_parser(8), which compiles it; after that a
// container names it, and package security writes the name where the kernel reads it. The profile is called
// containr-default, and its text is beside this file.
//
// Usable says whether it can be had: AppArmor is active, and root asks, who has the capability and the program for it.
// Where it cannot, containers run without a profile, as they did before there was one, and "containr doctor" and
// "containr info" say why. Where it can, and loading fails nevertheless, the container does not run: a wall that is
// promised is there.
//
// Load is called before each start that needs the profile, also that of a container made before the last boot. It asks
// the kernel, in half a millisecond, whether there is anything to do. A mark beside the state says of which text
// the loaded profile is, so that a newer containr replaces it; it is in a directory that a boot empties.
package apparmor

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containr/containr/internal/durable"
)

// Profile is the name of the profile.
const Profile = "containr-default"

//go:embed containr-default
var text string

const (
	parser = "apparmor_parser"
	// loaded lists the profiles of the kernel, a line each: "name (enforce)".
	loaded = "/sys/kernel/security/apparmor/profiles"
	// compileTime bounds the parser, which takes a tenth of a second.
	compileTime = time.Minute
)

// ErrLoad means that the profile could not be loaded.
var ErrLoad = errors.New("AppArmor profile " + Profile + " cannot be loaded")

// The programs are in directories that the PATH of services and of sudo may lack.
var directories = []string{"/usr/sbin", "/sbin"}

// Usable returns why the profile cannot be had, in words; "" if it can. active says that the kernel enforces profiles,
// admin that the caller is root and has CAP_MAC_ADMIN.
func Usable(active, admin bool) string {
	switch {
	case !active:
		return "AppArmor is not active"
	case !admin:
		return "only root with CAP_MAC_ADMIN may load a profile"
	}
	if _, err := os.Stat(loaded); err != nil {
		return "securityfs is not mounted on /sys/kernel/security"
	}
	if _, err := findParser(); err != nil {
		return parser + " is not installed"
	}
	return ""
}

func findParser() (string, error) {
	path, err := exec.LookPath(parser)
	for _, dir := range directories {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + "/" + parser)
	}
	return path, err
}

// Load loads the profile, unless the kernel has it, of this text. mark is a file in a directory that a boot empties. The
// error wraps ErrLoad.
func Load(ctx context.Context, mark string) error {
	there, err := isLoaded()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLoad, err)
	}
	sum := sha256.Sum256([]byte(text))
	digest := hex.EncodeToString(sum[:]) + "\n"
	old, err := os.ReadFile(mark)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrLoad, err)
	}
	if there && string(old) == digest {
		return nil
	}
	path, err := findParser()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLoad, err)
	}
	ctx, cancel := context.WithTimeout(ctx, compileTime)
	defer cancel()
	// Twice at once does no harm: the kernel takes one after the other, and they are the same.
	cmd := exec.CommandContext(ctx, path, "--replace", "--skip-cache", "--quiet")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s: %w: %s", ErrLoad, parser, err, strings.TrimSpace(string(out)))
	}
	return durable.WriteFile(mark, []byte(digest), durable.Options{Volatile: true})
}

// isLoaded asks the kernel for the profile.
func isLoaded() (bool, error) {
	list, err := os.ReadFile(loaded)
	return strings.HasPrefix(string(list), Profile+" (") || strings.Contains(string(list), "\n"+Profile+" ("), err
}
