package image

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is what an image runs on: operating system, processor architecture in
// Go's names, and variant of the processor. The zero value stands for the
// machine that the program runs on ([Default]).
type Platform struct {
	OS           string // "linux"
	Architecture string // "amd64"
	Variant      string // "v7"; empty is the base: v8 of arm64, v1 of amd64, v7 of arm
}

// AnyPlatform asks for the image as it is: the one for this machine if there is
// a choice, else the first that is present.
var AnyPlatform = Platform{OS: "*", Architecture: "*"}

// Default returns the platform of this machine.
func Default() Platform {
	return Platform{OS: "linux", Architecture: runtime.GOARCH}.normalize()
}

// alias returns Go's name of an architecture, and the variant if it implies one,
// for the names that uname(2), Debian and others use.
func alias(architecture string) (name, variant string) {
	switch architecture {
	case "x86_64", "x86-64", "x64":
		return "amd64", ""
	case "i386", "i486", "i586", "i686", "x86":
		return "386", ""
	case "aarch64", "armv8":
		return "arm64", ""
	case "armhf", "armv7", "armv7l":
		return "arm", "v7"
	case "armel", "armv6", "armv6l":
		return "arm", "v6"
	case "ppc64el", "powerpc64le":
		return "ppc64le", ""
	case "mips64el":
		return "mips64le", ""
	case "mipsel":
		return "mipsle", ""
	case "loongarch64":
		return "loong64", ""
	}
	return architecture, ""
}

// knownArchitectures tells an architecture given alone from an operating system
// given alone.
var knownArchitectures = []string{
	"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64", "s390x",
}

// ParsePlatform parses "os/arch", "os/arch/variant", or one of os and arch alone,
// the other being that of this machine. Names are normalised: x86_64 becomes
// amd64, aarch64 and arm64/v8 become arm64, armhf becomes arm/v7.
func ParsePlatform(s string) (Platform, error) {
	parts := strings.Split(strings.ToLower(s), "/")
	for _, part := range parts {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return Platform{}, fmt.Errorf("platform %q is not of the form os/arch[/variant]", cut(s))
		}
	}
	switch len(parts) {
	case 1:
		if name, _ := alias(parts[0]); slices.Contains(knownArchitectures, name) {
			return Platform{OS: Default().OS, Architecture: parts[0]}.normalize(), nil
		}
		if isOS(parts[0]) {
			return Platform{OS: parts[0], Architecture: runtime.GOARCH}.normalize(), nil
		}
		return Platform{}, fmt.Errorf("platform %q: neither an operating system nor an architecture is called so", cut(s))
	case 2:
		return Platform{OS: parts[0], Architecture: parts[1]}.normalize(), nil
	case 3:
		return Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}.normalize(), nil
	}
	return Platform{}, fmt.Errorf("platform %q is not of the form os/arch[/variant]", cut(s))
}

func isOS(s string) bool {
	return slices.Contains([]string{"linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd", "wasip1"}, s)
}

// fromSpec takes the platform of a descriptor or configuration, which may be
// written in any of the usual ways.
func fromSpec(p v1.Platform) Platform {
	return Platform{OS: strings.ToLower(p.OS), Architecture: strings.ToLower(p.Architecture), Variant: strings.ToLower(p.Variant)}.normalize()
}

// spec returns the platform as descriptors and configurations have it.
func (p Platform) spec() v1.Platform {
	return v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// normalize gives every platform one spelling.
func (p Platform) normalize() Platform {
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	name, variant := alias(p.Architecture)
	p.Architecture = name
	if p.Variant == "" {
		p.Variant = variant
	}
	if p.Variant != "" && p.Variant[0] != 'v' && isNumber(p.Variant) {
		p.Variant = "v" + p.Variant
	}
	switch {
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Architecture == "arm64" && p.Variant == "v8", p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	}
	return p
}

// String returns os/arch[/variant].
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// orDefault replaces the zero value by the platform of this machine.
func (p Platform) orDefault() Platform {
	if p == (Platform{}) {
		return Default()
	}
	return p.normalize()
}

// rank says how well an image for have serves a machine of p: 0 not at all, else
// the more the better. A processor runs what was made for lower variants of its
// architecture; the highest of those is the best.
func (p Platform) rank(have Platform) int {
	if p == AnyPlatform {
		if have.OS == "unknown" { // attestations of a build, not an image
			return 0
		}
		return 1 + Default().rank(have)
	}
	if p.OS != have.OS || p.Architecture != have.Architecture {
		return 0
	}
	if p.Variant == have.Variant {
		return 1 << 10
	}
	want, ok1 := p.level()
	offer, ok2 := have.level()
	if !ok1 || !ok2 || offer > want {
		return 0
	}
	return 1 + offer
}

// level returns the number in a variant such as "v7".
func (p Platform) level() (int, bool) {
	switch {
	case p.Variant == "" && p.Architecture == "arm64":
		return 8, true
	case p.Variant == "" && p.Architecture == "amd64":
		return 1, true
	case p.Variant == "":
		return 0, true
	}
	n, err := strconv.Atoi(strings.TrimPrefix(p.Variant, "v"))
	return n, err == nil && n >= 0 && n < 1000
}
