package conformance

// note is what is to be known of a program. wrong says that the program asks for something that the specification
// forbids, or does not ask for, or that chance decides: then nothing is held against containr-runtime.
type note struct {
	text  string
	wrong bool
}

// notes are by program.
var notes = map[string]note{
	"delete":                         {text: "callers may delete what was created and not started, as everywhere; the specification says otherwise"},
	"delete_resources":               {text: "it compares the addresses of two limits, not the limits"},
	"hooks":                          {text: "it looks for lines that its hooks do not print"},
	"linux_cgroups_blkio":            {text: "leaf weights went with Linux 5.0"},
	"linux_cgroups_relative_blkio":   {text: "leaf weights went with Linux 5.0"},
	"linux_cgroups_memory":           {text: "the limit of kernel memory went with Linux 6.1"},
	"linux_cgroups_relative_memory":  {text: "the limit of kernel memory went with Linux 6.1"},
	"linux_cgroups_pids":             {text: "it compares the addresses of two limits, not the limits"},
	"linux_cgroups_relative_pids":    {text: "it compares the addresses of two limits, not the limits"},
	"linux_process_apparmor_profile": {text: "AppArmor is not active here: a program that is to be confined does not run unconfined", wrong: true},
	"misc_props":                     {text: "the bundle has no `runtimetest`: it cannot be created"},
	"pidfile":                        {text: "it kills a program that may have ended, and expects success", wrong: true},
	"poststart":                      {text: "program and hook write to one file: it depends on who is first", wrong: true},
	"process_capabilities_fail":      {text: "an older rule: since version 1.3 what cannot be granted is a warning", wrong: true},
	"poststart_fail":                 {text: "an older rule: since version 1.3 a failed hook stops the container", wrong: true},
	"prestart":                       {text: "an older rule: since version 1.1 these hooks run when the container is created"},
	"process_capabilities":           {text: "needs root with every capability, which this machine lacks"},
	"process_rlimits":                {text: "`runtimetest`, a Go program, raises its own limit of open files before it looks"},
	"start":                          {text: "it expects success where its own text says that an error MUST be generated", wrong: true},
}
