package doctor

import (
	"fmt"
	"strings"
	"time"
)

var programChecks = []check{
	{group: "Programs and time", name: "base-image", ask: baseImage},
	{group: "Programs and time", name: "containr-init", ask: initProgram},
	{group: "Programs and time", name: "containr-monitor", ask: monitorProgram},
	{group: "Programs and time", name: "criu", ask: criu},
	{group: "Programs and time", name: "other-architectures", ask: otherArchitectures},
	{group: "Programs and time", name: "clock", ask: clock},
}

func baseImage(m *Machine) (State, string, string) {
	if !m.BaseImage {
		return Limited, "this containr was built without the built-in image", "build it with make"
	}
	return OK, "the built-in image base is here, without any network", ""
}

func initProgram(m *Machine) (State, string, string) {
	if m.Init == "" {
		return Limited, "containr-init is not beside containr: --init cannot be used", "make install"
	}
	return OK, m.Init, ""
}

func monitorProgram(m *Machine) (State, string, string) {
	if m.Monitor == "" {
		return Limited, "containr-monitor is not beside containr: nothing can run in the background", "make install"
	}
	return OK, m.Monitor, ""
}

func criu(m *Machine) (State, string, string) {
	if m.Criu == "" {
		return Limited, "not there, or too old: containr-runtime cannot save containers that run, and restore them", m.Distribution.install("criu", "criu", "criu")
	}
	return OK, m.Criu, ""
}

func otherArchitectures(m *Machine) (State, string, string) {
	if len(m.Interpreters) == 0 {
		return Limited, "only images for " + m.Facts.Arch + " run: no interpreter is registered for others", m.Distribution.install("qemu-user-static", "qemu-user-static", "qemu-user-static-binfmt")
	}
	return OK, strings.Join(m.Interpreters, ", "), ""
}

// built is a time before which nobody has this program: a clock that shows less is wrong.
var built = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func clock(m *Machine) (State, string, string) {
	const set = "sudo timedatectl set-ntp true"
	switch {
	case m.Now.Before(built):
		return Limited, fmt.Sprintf("it shows %s, which cannot be: registries' certificates will not be valid yet", m.Now.UTC().Format(time.DateOnly)), set
	case !m.Synchronized:
		return Limited, "nobody keeps it right", set
	}
	return OK, "it is kept right", ""
}

func registryFindings(m *Machine) []Finding {
	var all []Finding
	for _, r := range m.Registries {
		f := Finding{Group: "Registries", Check: r.Name, State: OK, Why: "it answers"}
		if r.Error != "" {
			f.State, f.Why, f.Mend = Missing, r.Error, "check the name, the network, and the variables HTTPS_PROXY and NO_PROXY"
		}
		all = append(all, f)
	}
	return all
}
