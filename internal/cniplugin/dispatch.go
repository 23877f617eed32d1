package cniplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

// Error codes of the specification, and of plugins for themselves from 100 on.
const (
	codeVersion     = types.ErrIncompatibleCNIVersion
	codeEnvironment = types.ErrInvalidEnvironmentVariables
	codeConfig      = types.ErrInvalidNetworkConfig
	codeUnavailable = 50
	codeFailed      = 100
)

// request is what a plugin is told.
type request struct {
	Verb, Container, Netns, Interface string
	Args                              map[string]string
	Config                            config
	Raw                               []byte
	// Previous is the result of the plugin before, nil if there is none.
	Previous *types100.Result
	// lock is held while multus is at work for a container. It is nil for others.
	lock *os.File
}

// config is the plugin's part of the network's file.
type config struct {
	types.PluginConf
	RuntimeConfig struct {
		MAC   string    `json:"mac"`
		IPs   []string  `json:"ips"`
		Ports []portMap `json:"portMappings"`
	} `json:"runtimeConfig"`
	Valid []attachment `json:"cni.dev/valid-attachments"`

	// Of bridge.
	Bridge           string `json:"bridge"`
	IsGateway        *bool  `json:"isGateway"`
	IsDefaultGateway bool   `json:"isDefaultGateway"`
	IPMasq           bool   `json:"ipMasq"`
	MTU              int    `json:"mtu"`
	PortIsolation    bool   `json:"portIsolation"`
	VLAN             int    `json:"vlan"`
	Promisc          bool   `json:"promiscMode"`
	// Of macvlan.
	Master string `json:"master"`
	Mode   string `json:"mode"`
	// Of host-local, in the part of another plugin.
	IPAM ipam `json:"ipam"`
}

type portMap struct {
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

type attachment struct {
	Container string `json:"containerID"`
	Interface string `json:"ifname"`
}

// name tells attachments apart in the names of files: neither part can have a colon in it (CNI specification, "Parameters").
func (a attachment) name() string { return a.Container + ":" + a.Interface }

func (r *request) attachment() attachment { return attachment{r.Container, r.Interface} }

// plugin is what one name does. A nil function has nothing to do.
type plugin struct {
	add                    func(*request) (*types100.Result, error)
	check, del, gc, status func(*request) error
}

var plugins = map[string]plugin{
	"bridge":     {add: addBridge, check: checkLinks, del: delBridge, gc: passOn("GC"), status: ready},
	"macvlan":    {add: addMACVLAN, check: checkLinks, del: delMACVLAN, gc: passOn("GC"), status: passOn("STATUS")},
	"host-local": {add: addAddresses, check: checkAddresses, del: delAddresses, gc: collectAddresses},
	"portmap":    {add: addPorts, check: checkPorts, del: delPorts, status: ready},
	"firewall":   {add: addFirewall, check: nil, del: nil, status: ready},
	"multus":     {add: addMultus, check: checkMultus, del: delMultus, gc: collectMultus, status: statusMultus},
}

// Main does what the name of the program says, and returns its exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	name := filepath.Base(args[0])
	if name == "containr-cni" && len(args) > 1 {
		args = args[1:]
		name = args[0]
	}
	if name == "netavark" {
		return netavark(args[1:], stdin, stdout, stderr)
	}
	p, ok := plugins[name]
	if !ok {
		fmt.Fprintf(stderr, "%s: it does what the name says that it is called by: bridge, macvlan, host-local, portmap, firewall, multus, or netavark\n", name)
		return 2
	}
	if os.Getenv("CNI_COMMAND") == "" {
		fmt.Fprintf(stderr, "%s: a plugin of CNI, versions %s. An engine executes it with CNI_COMMAND in the environment.\n", name, strings.Join(version.All.SupportedVersions(), ", "))
		return 1
	}
	if err := dispatch(p, stdin, stdout); err != nil {
		var said *types.Error
		if !errors.As(err, &said) {
			said = types.NewError(codeFailed, err.Error(), "")
		}
		_ = said.Print() // to standard output, where else there is no place for it either
		return 1
	}
	return 0
}

// maxConfig bounds what a plugin is told, in bytes.
const maxConfig = 4 << 20

func dispatch(p plugin, stdin io.Reader, stdout io.Writer) error {
	raw, err := io.ReadAll(io.LimitReader(stdin, maxConfig))
	if err != nil {
		return err
	}
	r := &request{Verb: os.Getenv("CNI_COMMAND"), Container: os.Getenv("CNI_CONTAINERID"), Netns: os.Getenv("CNI_NETNS"), Interface: os.Getenv("CNI_IFNAME"),
		Args: map[string]string{}, Raw: raw}
	if r.Verb == "VERSION" {
		return version.All.Encode(stdout)
	}
	for pair := range strings.SplitSeq(os.Getenv("CNI_ARGS"), ";") {
		key, value, _ := strings.Cut(pair, "=")
		r.Args[key] = value
	}
	if err := r.read(); err != nil {
		return err
	}
	do := map[string]func(*request) error{"CHECK": p.check, "DEL": p.del, "GC": p.gc, "STATUS": p.status}
	if r.Verb == "ADD" {
		result, err := p.add(r)
		if err != nil {
			return err
		}
		return types.PrintResult(result, r.Config.CNIVersion)
	}
	f, ok := do[r.Verb]
	switch {
	case !ok:
		return types.NewError(codeEnvironment, "CNI_COMMAND="+r.Verb+": there are ADD, CHECK, DEL, GC, STATUS, VERSION", "")
	case f == nil:
		return nil
	}
	return f(r)
}

// read checks what a plugin is told.
func (r *request) read() error {
	if err := json.Unmarshal(r.Raw, &r.Config); err != nil {
		return types.NewError(types.ErrDecodingFailure, err.Error(), "")
	}
	if v := r.Config.CNIVersion; v != "" && !slices.Contains(version.All.SupportedVersions(), v) {
		return types.NewError(codeVersion, "cniVersion "+v, "there are "+strings.Join(version.All.SupportedVersions(), ", "))
	}
	if err := r.checkNames(); err != nil {
		return err
	}
	if (r.Verb == "ADD" || r.Verb == "CHECK") && r.Netns == "" {
		return types.NewError(codeEnvironment, "CNI_NETNS is missing", "")
	}
	if err := version.ParsePrevResult(&r.Config.PluginConf); err != nil {
		return types.NewError(types.ErrDecodingFailure, "prevResult: "+err.Error(), "")
	}
	var err error
	if r.Config.PrevResult != nil {
		r.Previous, err = types100.NewResultFromResult(r.Config.PrevResult)
	}
	return err
}

// checkNames checks what becomes part of paths and of the names of devices. An engine may pass on what it was told by others.
func (r *request) checkNames() error {
	if utils.ValidateNetworkName(r.Config.Name) != nil {
		return invalid("name %q: it is no name of a network: letters, digits, _ . and -, the first a letter or digit", r.Config.Name)
	}
	if r.Verb != "ADD" && r.Verb != "CHECK" && r.Verb != "DEL" {
		return nil
	}
	if utils.ValidateContainerID(r.Container) != nil {
		return types.NewError(codeEnvironment, fmt.Sprintf("CNI_CONTAINERID=%q: it is no name: letters, digits, _ . and -, the first a letter or digit", r.Container), "")
	}
	if utils.ValidateInterfaceName(r.Interface) != nil {
		return types.NewError(codeEnvironment, fmt.Sprintf("CNI_IFNAME=%q: it is no name of a network device", r.Interface), "")
	}
	return nil
}

// checkDevice checks the name of a device of the host's that a plugin makes or looks for.
func checkDevice(key, name string) error {
	if utils.ValidateInterfaceName(name) != nil {
		return invalid("%s %q: it is no name of a network device", key, name)
	}
	return nil
}

// invalid is an error about the network's file.
func invalid(format string, args ...any) error {
	return types.NewError(codeConfig, fmt.Sprintf(format, args...), "")
}
