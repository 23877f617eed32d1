package container

import (
	"github.com/containr/containr/pkg/network/policy"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Config is what the user asked for: the flags of `containr run` after their
// grammars were read, before any of them was given a meaning. The zero value of
// a field always means "not asked"; Defaults says what that stands for.
type Config struct {
	// Image is the reference as the user typed it. Empty if Rootfs is set.
	Image string `json:"image,omitempty"`
	// Rootfs is an absolute path of a directory to use as root file system
	// in place of an image.
	Rootfs string `json:"rootfs,omitempty"`
	// Platform is os/arch[/variant]; empty for this machine's own.
	Platform string `json:"platform,omitempty"`
	// Pull is one of PullMissing, PullAlways and PullNever.
	Pull string `json:"pull,omitempty"`

	// Name is the container's name; empty lets the store find one.
	Name       string `json:"name,omitempty"`
	Hostname   string `json:"hostname,omitempty"`
	Domainname string `json:"domainname,omitempty"`
	// Labels are for people and tools; nothing here acts on them.
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations go to the OCI specification as they are.
	Annotations map[string]string `json:"annotations,omitempty"`

	// Args replace the image's CMD if there are any.
	Args []string `json:"args,omitempty"`
	// Entrypoint replaces the image's ENTRYPOINT. nil keeps the image's; an
	// empty list that is not nil removes it, and with it the image's CMD.
	Entrypoint []string `json:"entrypoint"`
	// Env holds KEY=VALUE, or KEY alone to remove a variable that the image
	// or a default would set. Later entries win.
	Env []string `json:"env,omitempty"`
	// WorkDir is an absolute path in the container.
	WorkDir string `json:"workDir,omitempty"`
	// User is user[:group], names or numbers, as ResolveUser reads it.
	User string `json:"user,omitempty"`
	// GroupAdd lists further groups, names or numbers.
	GroupAdd []string `json:"groupAdd,omitempty"`
	// Umask of the first process; nil leaves it to the runtime (0022).
	Umask *uint32 `json:"umask,omitempty"`
	// TTY gives the container a terminal of its own.
	TTY bool `json:"tty,omitempty"`
	// Interactive keeps the container's standard input open.
	Interactive bool `json:"interactive,omitempty"`
	// Init puts a small init in front of the program.
	Init bool `json:"init,omitempty"`
	// AutoRemove deletes the container when its program ends.
	AutoRemove bool `json:"autoRemove,omitempty"`
	// StopSignal is a name (SIGTERM) or a number; empty is the image's, and
	// then SIGTERM.
	StopSignal string `json:"stopSignal,omitempty"`
	// StopTimeout is how many seconds a stop waits before it kills; nil is
	// DefaultStopTimeout, -1 for ever.
	StopTimeout *int `json:"stopTimeout,omitempty"`
	// Restart says whether the program is started again when it has ended.
	Restart Restart `json:"restart,omitzero"`
	// Health says how it is checked.
	Health Health `json:"health,omitzero"`
	// LogDriver and LogOpts say what becomes of the output of a container that runs
	// detached; see package logs.
	LogDriver string            `json:"logDriver,omitempty"`
	LogOpts   map[string]string `json:"logOpts,omitempty"`

	ReadOnly   bool     `json:"readOnly,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	CapAdd     []string `json:"capAdd,omitempty"`
	CapDrop    []string `json:"capDrop,omitempty"`
	Security   Security `json:"security,omitzero"`

	Resources Resources `json:"resources,omitzero"`
	// CgroupParent is the cgroup below which the container gets its own.
	CgroupParent string   `json:"cgroupParent,omitempty"`
	Ulimits      []Ulimit `json:"ulimits,omitempty"`
	BlockIO      BlockIO  `json:"blockIO,omitzero"`
	// OOMScoreAdj is -1000 to 1000; nil is 0.
	OOMScoreAdj *int `json:"oomScoreAdj,omitempty"`

	// Mounts are what -v, --mount and --tmpfs asked for, in that order.
	Mounts []Mount `json:"mounts,omitempty"`
	// VolumeDriver is who keeps the volumes that are made for it, where their mounts name nobody; empty is volume.DriverLocal.
	VolumeDriver string `json:"volumeDriver,omitempty"`
	// VolumesFrom are containers whose mounts it has too.
	VolumesFrom []VolumesFrom `json:"volumesFrom,omitempty"`
	// Secrets are those that it gets, by file or variable. What they hold is not here.
	Secrets []Secret `json:"secrets,omitempty"`
	// Configs are files of configuration that it gets, as they are when it is made.
	Configs []Secret `json:"configs,omitempty"`
	// StorageSize bounds what the container's own layer takes, in bytes; 0 does not.
	StorageSize int64 `json:"storageSize,omitempty"`
	// ShmSize is the size of /dev/shm in bytes.
	ShmSize int64 `json:"shmSize,omitempty"`
	// Devices are host devices to show in the container.
	Devices []Device `json:"devices,omitempty"`
	// CDIDevices are devices by name, VENDOR/CLASS=NAME, and CDISpecDirs the directories of the
	// files that describe them, empty for the usual ones.
	CDIDevices  []string `json:"cdiDevices,omitempty"`
	CDISpecDirs []string `json:"cdiSpecDirs,omitempty"`
	// GPUs asks for graphics processors whose names are looked for when the container is made.
	GPUs []GPURequest `json:"gpus,omitempty"`
	// DeviceRules are added to the device cgroup after the defaults.
	DeviceRules []specs.LinuxDeviceCgroup `json:"deviceRules,omitempty"`

	Namespaces Namespaces `json:"namespaces,omitzero"`
	// UIDMap and GIDMap ask for a user namespace with exactly these maps.
	UIDMap []specs.LinuxIDMapping `json:"uidMap,omitempty"`
	GIDMap []specs.LinuxIDMapping `json:"gidMap,omitempty"`
	// UsersRemap names whose subordinate ids the users of a container are that asks for no others: USER[:GROUP], or
	// default. It is for root.
	UsersRemap string `json:"usersRemap,omitempty"`
	// IDMapped says that its files are on disk with the owners that it sees, and mapped where they are mounted. It is
	// decided by what the machine can do; else they are copies with the owners that its users are on the host.
	IDMapped bool `json:"idMapped,omitempty"`
	// Sysctls are written inside the container's namespaces.
	Sysctls map[string]string `json:"sysctls,omitempty"`

	// Networks are those that the container is connected with. Namespaces.Network is the
	// name of the first, or a word for none.
	Networks []Plug `json:"networks,omitempty"`
	// Policies say who may talk to it, and whom it may talk to, beside those of its networks.
	Policies []policy.Policy `json:"policies,omitempty"`
	// Ports are published: they can be reached through the host. PublishAll does that to
	// those in Expose and in the image, too.
	Ports      []Port `json:"ports,omitempty"`
	PublishAll bool   `json:"publishAll,omitempty"`
	// PublishPolicy says who decides whether what comes for a published port is let in: empty is whoever passes the host's FORWARD, as
	// rules lead it to the container; PublishFirewall is the host's INPUT, as a program of the host listens.
	PublishPolicy string   `json:"publishPolicy,omitempty"`
	Expose        []string `json:"expose,omitempty"`

	// ExtraHosts are further lines of /etc/hosts.
	ExtraHosts []Host `json:"extraHosts,omitempty"`
	// DNS says what /etc/resolv.conf holds.
	DNS DNS `json:"dns,omitzero"`
}

// Pull policies: when an image is fetched from its registry.
const (
	PullMissing = "missing" // only if it is not in the store
	PullAlways  = "always"  // ask the registry every time
	PullNever   = "never"   // fail if it is not in the store
)

// Security is what the --security-opt flags asked for.
type Security struct {
	// NoNewPrivileges keeps setuid programs from raising privileges.
	NoNewPrivileges bool `json:"noNewPrivileges,omitempty"`
	// Seccomp is empty for the default profile, which a privileged container does not have; SeccompDefault for that profile
	// by name, which it has; SeccompStrict for the one
	// that allows less, SeccompUnconfined for none, else the absolute path of a profile in docker's JSON format.
	Seccomp string `json:"seccomp,omitempty"`
	// SystemPaths is SystemPathsUnconfined to leave /proc and /sys unmasked.
	SystemPaths string `json:"systemPaths,omitempty"`
	// AppArmor names a loaded profile; "unconfined" is none.
	AppArmor string `json:"apparmor,omitempty"`
	// Labels are SELinux options: disable, user:U, role:R, type:T, level:L.
	Labels []string `json:"labels,omitempty"`
	// Landlock are the directories of the container that its programs may write below, if there are any; nothing that they
	// start gains privileges then.
	Landlock []string `json:"landlock,omitempty"`
}

// Values of Security's fields that are not names of something else.
const (
	SeccompUnconfined     = "unconfined"
	SeccompDefault        = "default"
	SeccompStrict         = "strict"
	SystemPathsUnconfined = "unconfined"
	AppArmorUnconfined    = "unconfined"
	LabelDisable          = "disable"
)

// Resources are limits. Zero always means "no limit asked for".
type Resources struct {
	// Memory is the limit in bytes, at least MinMemory; in a change also Lifted, as NanoCPUs.
	Memory int64 `json:"memory,omitempty"`
	// MemorySwap is memory and swap together in bytes; -1 is no limit; 0 is
	// twice Memory.
	MemorySwap int64 `json:"memorySwap,omitempty"`
	// MemoryReservation is a soft limit in bytes.
	MemoryReservation int64 `json:"memoryReservation,omitempty"`
	// NanoCPUs is CPU time in billionths of a CPU.
	NanoCPUs int64 `json:"nanoCPUs,omitempty"`
	// CPUShares is the relative weight, 2 to 262144, 1024 being average.
	CPUShares int64 `json:"cpuShares,omitempty"`
	// CPUPeriod and CPUQuota are in microseconds.
	CPUPeriod int64 `json:"cpuPeriod,omitempty"`
	CPUQuota  int64 `json:"cpuQuota,omitempty"`
	// CPUs and MemoryNodes are lists such as 0-3,6.
	CPUs        string `json:"cpus,omitempty"`
	MemoryNodes string `json:"memoryNodes,omitempty"`
	// Pids is the greatest number of processes; -1 is no limit.
	Pids int64 `json:"pids,omitempty"`
	// BlockIOWeight is the share of block devices, 10 to 1000.
	BlockIOWeight uint16 `json:"blockIOWeight,omitempty"`
	// Swappiness is how eagerly memory is swapped out, 0 to 100; nil leaves it to the host.
	Swappiness *int64 `json:"swappiness,omitempty"`
	// OOMKillDisable has programs wait for memory where they would be killed.
	OOMKillDisable bool `json:"oomKillDisable,omitempty"`
}

// Namespaces says for each kind whether the container has its own. Which words
// are allowed is in namespaces.go.
type Namespaces struct {
	Network string `json:"network,omitempty"`
	PID     string `json:"pid,omitempty"`
	IPC     string `json:"ipc,omitempty"`
	UTS     string `json:"uts,omitempty"`
	Cgroup  string `json:"cgroup,omitempty"`
	User    string `json:"user,omitempty"`
}

// Host is one line of /etc/hosts: a name and its address.
type Host struct {
	Name string `json:"name"`
	IP   string `json:"ip"`
}

// DNS holds what --dns, --dns-search and --dns-option said. An empty list keeps
// the host's.
type DNS struct {
	Servers []string `json:"servers,omitempty"`
	// Search is the list of search domains; the single entry "." means none.
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
}
