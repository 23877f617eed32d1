package container

import "slices"

// CapabilityNames lists the words that ParseCapability takes, as people write them: without CAP_, and ALL.
func CapabilityNames() []string {
	names := []string{"ALL"}
	for _, n := range capabilityNames() {
		names = append(names, n[len("CAP_"):])
	}
	return names
}

// UlimitNames lists the limits that ParseUlimit takes.
func UlimitNames() []string { return slices.Clone(ulimitNames) }

// SignalNames lists the names that ParseSignal takes, but for aliases and real-time signals: SIGTERM.
func SignalNames() []string {
	var names []string
	for _, n := range signalNames {
		if n != "" {
			names = append(names, "SIG"+n)
		}
	}
	return names
}
