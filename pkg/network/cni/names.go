package cni

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/utils"
)

// Names become parts of paths and of what plugins are told, and some are an image's, or whoever wrote an annotation: they are
// checked where they are read, and again where a step uses them, as that is done by root.

// checkName checks the name of a network by the rule of the specification.
func checkName(name string) error {
	if err := utils.ValidateNetworkName(name); err != nil {
		return fmt.Errorf("%q is no name of a CNI network: letters, digits, _ . and -, the first a letter or digit", name)
	}
	return nil
}

// checkInterface checks the name of a network device, as --network name=NETWORK,interface=NAME does.
func checkInterface(name string) error {
	const most = 15 // IFNAMSIZ without the closing zero, netdevice(7)
	if err := utils.ValidateInterfaceName(name); err != nil || name == "lo" || strings.ContainsFunc(name, func(r rune) bool { return r == '%' || !unicode.IsGraphic(r) }) {
		return fmt.Errorf("interface %q: it is no name for a network device of at most %d bytes", name, most)
	}
	return nil
}

// checkArg checks an argument for plugins, which is KEY=VALUE in CNI_ARGS, with ; between them: there is no way to quote these.
func checkArg(key, value string) error {
	switch {
	case key == "" || strings.ContainsAny(key, "=;") || strings.ContainsFunc(key, unicode.IsControl):
		return fmt.Errorf("%q is no key: it may not be empty, nor have = or ; or a control character in it", key)
	case strings.Contains(value, ";") || strings.ContainsFunc(value, unicode.IsControl):
		return fmt.Errorf("%s: the value %q has ; or a control character in it, and would be more than one argument", key, value)
	}
	return nil
}

// checkNames checks all of an attachment that becomes part of a path or of CNI_ARGS.
func (a Attachment) checkNames() error {
	if err := utils.ValidateContainerID(a.Container); err != nil {
		return fmt.Errorf("%q is no container's id: letters, digits, _ . and -, the first a letter or digit", a.Container)
	}
	if err := checkName(a.list.Name); err != nil {
		return err
	}
	if err := checkInterface(a.Interface); err != nil {
		return fmt.Errorf("network %s%s: %w", Prefix, a.list.Name, err)
	}
	for _, p := range a.Args {
		if err := checkArg(p[0], p[1]); err != nil {
			return fmt.Errorf("network %s%s: %w", Prefix, a.list.Name, err)
		}
	}
	return nil
}
