package engine

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"
	goruntime "runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/snapshot"
)

// ProgramError is a program that could not be started, with what was found when its file was looked at.
type ProgramError struct {
	// Err is the failed step.
	Err error
	// Cause is the kind, Found what was found, in words, and Advice what to do.
	Cause         ProgramCause
	Found, Advice string
}

// Error is that of the step: it says which program, and the kernel's answer.
func (e *ProgramError) Error() string { return e.Err.Error() }
func (e *ProgramError) Unwrap() error { return e.Err }

// Hint says what was found, and what to do about it.
func (e *ProgramError) Hint() string { return e.Found + ": " + e.Advice }

// ProgramCause is why a program could not be started. Its value is the stable code of the error.
type ProgramCause string

// Why the kernel does not start a program that is there.
const (
	NoInterpreter      ProgramCause = "CTR-4001"
	CarriageReturn     ProgramCause = "CTR-4002"
	BadInterpreter     ProgramCause = "CTR-4003"
	NoLoader           ProgramCause = "CTR-4004"
	OtherArchitecture  ProgramCause = "CTR-4005"
	NoFirstLine        ProgramCause = "CTR-4006"
	OtherSystem        ProgramCause = "CTR-4007"
	EmptyFile          ProgramCause = "CTR-4008"
	ByteOrderMark      ProgramCause = "CTR-4009"
	NotExecutable      ProgramCause = "CTR-4010"
	MountedNoexec      ProgramCause = "CTR-4011"
	IsDirectory        ProgramCause = "CTR-4012"
	NoProgram          ProgramCause = "CTR-4013"
	DamagedProgram     ProgramCause = "CTR-4014"
	InterpreterIsOther ProgramCause = "CTR-4015"
)

// ProgramKind describes a cause for people.
type ProgramKind struct {
	Code, Title, Meaning string
	Reasons, Do          []string
}

// ProgramCauses lists the causes.
func ProgramCauses() []ProgramKind {
	return slices.Clone(programKinds)
}

var programKinds = []ProgramKind{
	{string(NoInterpreter), "the interpreter of a script is missing", "The file is there, but the program after #! in its first line is not in the container. The kernel then says that there is no such file.",
		[]string{"the image has another shell, or none: distroless and scratch images have none, Alpine has no bash"},
		[]string{"Name an interpreter that the image has: `#!/bin/sh`, or `#!/usr/bin/env bash` where bash is elsewhere.", "Use an image that has it."}},
	{string(CarriageReturn), "the first line of a script ends as on Windows", "Lines end with a carriage return and a line feed, and the carriage return counts as part of the interpreter's name, which then does not exist.",
		[]string{"an editor on Windows wrote the file", "git checked it out with core.autocrlf=true"},
		[]string{"`sed -i 's/\\r$//' FILE`, or dos2unix.", "A line `*.sh text eol=lf` in .gitattributes keeps git from it."}},
	{string(BadInterpreter), "the interpreter of a script cannot be executed", "What #! names is there, and is no executable file.",
		nil, []string{"`chmod +x` it in the image, or name another one."}},
	{string(NoLoader), "the dynamic loader is missing", "The program is linked dynamically, and its loader is not in the container. The kernel then says that there is no such file.",
		[]string{"it was linked for another C library: glibc's programs do not run on Alpine, musl's not on Debian", "the image is empty but for the program (FROM scratch)"},
		[]string{"Link it statically (`CGO_ENABLED=0 go build`, `-static`), or use an image with that C library."}},
	{string(OtherArchitecture), "the program is for another architecture", "The machine code in the file is not this machine's.",
		[]string{"the image was built on another kind of machine, and has no variant for this one", "--platform asked for it"},
		[]string{"Build or pull for this machine: `--platform`.", "`containr doctor` says how to register an interpreter (qemu) for others."}},
	{string(NoFirstLine), "a script has no #! line", "The file is text, and does not say in its first line which program runs it. A shell would guess; the kernel does not.",
		nil, []string{"Put `#!/bin/sh` in the first line, or run `sh FILE`."}},
	{string(OtherSystem), "the program is for another operating system", "The file is a program, but not one for Linux.",
		[]string{"it was copied from Windows or macOS"}, []string{"Build it for Linux: `GOOS=linux go build`, or inside a container."}},
	{string(EmptyFile), "the file is empty", "There is nothing in the file to execute.",
		[]string{"a download or a COPY failed", "a bind mount covers the program with another file"}, []string{"Make the file anew."}},
	{string(ByteOrderMark), "a byte order mark stands before #!", "Three invisible bytes come before #!, so that the kernel does not see it.",
		[]string{"an editor saved the script as UTF-8 with BOM"}, []string{"`sed -i '1s/^\\xEF\\xBB\\xBF//' FILE`, or save it without."}},
	{string(NotExecutable), "the file is not executable", "No mode bit lets the container's user execute the file.",
		[]string{"it was copied without its mode"}, []string{"`chmod +x FILE` before it is bound or copied; `COPY --chmod=755`.", "Or run its interpreter: `sh FILE`."}},
	{string(MountedNoexec), "the program lies on a mount that is noexec", "The mount forbids the execution of what lies on it.",
		[]string{"--tmpfs is noexec unless it is told exec", "the host's own mount is noexec"}, []string{"`--tmpfs DIR:exec`, or put the program elsewhere."}},
	{string(IsDirectory), "this is a directory", "A directory cannot be executed.", nil, []string{"Name a program in it."}},
	{string(NoProgram), "this is no program", "The file is neither an ELF program nor a script.",
		[]string{"it is data, an archive, or a download that is an error page"}, []string{"Look at it with `file`."}},
	{string(DamagedProgram), "the program is damaged", "The file begins as an ELF program, and is cut off.", nil, []string{"Copy or build it again."}},
	{string(InterpreterIsOther), "the interpreter of a script is for another architecture", "The program that #! names is not this machine's.", nil,
		[]string{"Use an image for this machine, or `containr doctor` on how to register an interpreter."}},
}

// ProgramCode is the code of the cause of a program that could not be started, or "".
func ProgramCode(err error) string {
	var p *ProgramError
	if errors.As(err, &p) {
		return string(p.Cause)
	}
	return ""
}

// lookedAt is a file in a container: its mode as stat(2) has it, and the beginning of its content.
type lookedAt struct {
	mode uint32
	head []byte
	// noexec says that the mount that it lies on forbids execution.
	noexec bool
}

func (f lookedAt) kind() uint32 { return f.mode & unix.S_IFMT }

// headSize is how much of a file is looked at, in bytes. The kernel itself looks at 256 for a script.
const headSize = 4096

// judge finds out why the kernel refused a program with errno, when it was to be executed or, if executed is false, when it
// was asked whether the file itself could be. look looks at files of the container, and fails with
// fs.ErrNotExist where there is none. It is nil if nothing is found out that the kernel has not said better.
func judge(name string, errno plan.Errno, executed bool, look func(string) (lookedAt, error)) *ProgramError {
	f, err := look(name)
	if err != nil {
		return nil
	}
	fault := func(c ProgramCause, advice, found string, args ...any) *ProgramError {
		return &ProgramError{Cause: c, Found: fmt.Sprintf(found, args...), Advice: advice}
	}
	switch errno {
	case plan.EACCES:
		switch {
		case f.kind() == unix.S_IFDIR:
			return fault(IsDirectory, "name a program in it", "%s is a directory", name)
		case f.noexec:
			return fault(MountedNoexec, "add exec to the mount's options, or put the program elsewhere", "%s lies on a mount that is noexec", name)
		case f.kind() == unix.S_IFREG && f.mode&0o111 == 0:
			return fault(NotExecutable, "chmod +x, or run it with its interpreter", "%s is not executable for anybody (mode %04o)", name, f.mode&0o7777)
		case executed:
			return judgeInterpreter(name, f, look)
		}
	case plan.ENOENT:
		return judgeInterpreter(name, f, look)
	case plan.ENOEXEC:
		return judgeFormat(name, f)
	}
	return nil
}

// judgeInterpreter looks for what has to be there besides the file itself.
func judgeInterpreter(name string, f lookedAt, look func(string) (lookedAt, error)) *ProgramError {
	if interpreter, ok := firstLine(f.head); ok {
		return judgeScript(name, interpreter, look)
	}
	loader, ok := loaderOf(f.head)
	if !ok {
		return nil
	}
	if _, err := look(loader); errors.Is(err, fs.ErrNotExist) {
		return &ProgramError{Cause: NoLoader, Found: fmt.Sprintf("%s is there, but the dynamic loader %s that it was linked for is not in the container", name, loader),
			Advice: "link it statically, or use an image with " + libraryOf(loader)}
	}
	return nil
}

// libraryOf names the C library whose loader it is.
func libraryOf(loader string) string {
	if strings.Contains(loader, "ld-musl") {
		return "musl, such as Alpine's"
	}
	return "glibc, such as Debian's"
}

func judgeScript(name, interpreter string, look func(string) (lookedAt, error)) *ProgramError {
	if trimmed, ok := strings.CutSuffix(interpreter, "\r"); ok {
		return &ProgramError{Cause: CarriageReturn, Found: fmt.Sprintf("the first line of %s ends with a carriage return, as lines do on Windows, so %s is looked for under a name that ends with it", name, trimmed),
			Advice: `sed -i 's/\r$//' on the file, or dos2unix`}
	}
	f, err := look(interpreter)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &ProgramError{Cause: NoInterpreter, Found: fmt.Sprintf("%s is there, but its interpreter %s, named after #! in its first line, is not in the container", name, interpreter),
			Advice: "name one that the image has, or use an image that has this one"}
	case err != nil:
		return nil
	case f.kind() != unix.S_IFREG || f.mode&0o111 == 0:
		return &ProgramError{Cause: BadInterpreter, Found: fmt.Sprintf("%s, the interpreter of %s, is not executable", interpreter, name), Advice: "chmod +x it, or name another one after #!"}
	}
	if p := judgeInterpreter(interpreter, f, look); p != nil {
		return p
	}
	if p := judgeFormat(interpreter, f); p != nil && p.Cause == OtherArchitecture {
		p.Cause = InterpreterIsOther
		return p
	}
	return nil
}

// firstLine returns the interpreter that a script names, a carriage return at the end of the line included.
func firstLine(head []byte) (string, bool) {
	rest, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return "", false
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	line = bytes.TrimLeft(line, " \t")
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		line = line[:i]
	}
	return string(line), len(line) > 0
}

// judgeFormat says what a file is that the kernel takes for no program.
func judgeFormat(name string, f lookedAt) *ProgramError {
	fault := func(c ProgramCause, advice, found string, args ...any) *ProgramError {
		return &ProgramError{Cause: c, Found: fmt.Sprintf(found, args...), Advice: advice}
	}
	head := f.head
	switch {
	case f.kind() != unix.S_IFREG:
		return nil
	case len(head) == 0:
		return fault(EmptyFile, "make it anew", "%s is empty", name)
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return judgeELF(name, head)
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf#!")):
		return fault(ByteOrderMark, "save it as UTF-8 without BOM", "%s has a byte order mark before #!", name)
	case bytes.HasPrefix(head, []byte("MZ")):
		return fault(OtherSystem, "build it for Linux", "%s is a program for Windows", name)
	case isMachO(head):
		return fault(OtherSystem, "build it for Linux", "%s is a program for macOS", name)
	case isText(head):
		return fault(NoFirstLine, "put #!/bin/sh in its first line, or run it with sh", "%s is a text, and does not say after #! in its first line what runs it", name)
	}
	return fault(NoProgram, "look at it with file", "%s is neither an ELF program nor a script", name)
}

func isMachO(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	magic := binary.LittleEndian.Uint32(head)
	return magic == 0xfeedface || magic == 0xfeedfacf || magic == 0xbebafeca
}

// isText reports whether bytes are such as texts have.
func isText(head []byte) bool {
	return !bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && !strings.ContainsRune("\t\n\v\f\r\x1b", r) })
}

// machines are Go's names of architectures by their number in ELF.
var machines = map[elf.Machine]string{
	elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "386", elf.EM_ARM: "arm", elf.EM_RISCV: "riscv64",
	elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64le", elf.EM_MIPS: "mips", elf.EM_LOONGARCH: "loong64",
}

// Places in the header of an ELF file, which are those of both its classes.
const (
	elfClass, elfData, elfMachine = 4, 5, 18
	elfHeader64                   = 64
)

func judgeELF(name string, head []byte) *ProgramError {
	if len(head) < elfHeader64 {
		return &ProgramError{Cause: DamagedProgram, Found: name + " begins as an ELF program and ends after " + fmt.Sprint(len(head)) + " bytes", Advice: "copy or build it again"}
	}
	m := elf.Machine(byteOrder(head).Uint16(head[elfMachine:]))
	arch, known := machines[m]
	if !known {
		arch = m.String()
	}
	if arch == goruntime.GOARCH {
		return nil
	}
	return &ProgramError{Cause: OtherArchitecture, Found: fmt.Sprintf("%s is a program for %s, and this machine is %s", name, arch, goruntime.GOARCH),
		Advice: "use an image for linux/" + goruntime.GOARCH + ", or have containr doctor say how to register an interpreter"}
}

func byteOrder(head []byte) binary.ByteOrder {
	if head[elfData] == byte(elf.ELFDATA2MSB) {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// loaderOf returns the dynamic loader that an ELF program asks for (PT_INTERP), if it and its name are at the beginning of
// the file, where linkers put them.
func loaderOf(head []byte) (string, bool) {
	if len(head) < elfHeader64 || !bytes.HasPrefix(head, []byte("\x7fELF")) || head[elfClass] != byte(elf.ELFCLASS64) {
		return "", false
	}
	order := byteOrder(head)
	table, size, count := order.Uint64(head[32:]), uint64(order.Uint16(head[54:])), uint64(order.Uint16(head[56:]))
	const entry = 56
	for i := range count {
		at := table + i*size
		if size < entry || at > uint64(len(head)) || uint64(len(head))-at < entry {
			return "", false
		}
		h := head[at:]
		if elf.ProgType(order.Uint32(h)) != elf.PT_INTERP {
			continue
		}
		from, n := order.Uint64(h[8:]), order.Uint64(h[32:])
		if from > uint64(len(head)) || n == 0 || n > uint64(len(head))-from {
			return "", false
		}
		return path.Clean("/" + strings.TrimRight(string(head[from:from+n]), "\x00")), true
	}
	return "", false
}

// diagnoseRecord is diagnose for a container that is there.
func (e *Engine) diagnoseRecord(r container.Record, err error) error {
	home, homeErr := e.homeOf(r.Config)
	if homeErr != nil || r.Spec == nil {
		return err // it says enough
	}
	return e.diagnose(&prepared{config: r.Config, chain: snapshot.ChainID(r.Chain), home: home, spec: r.Spec}, err)
}

// diagnose looks at the program that a step could not start, and says what it found.
func (e *Engine) diagnose(p *prepared, err error) error {
	return diagnose(err, p.spec.Process.Cwd, func(name string) (lookedAt, error) { return e.look(p, name) })
}

// diagnoseIn is diagnose for a further program in a container of which pid is a process: that sees the files.
func diagnoseIn(pid int, cwd string, err error) error {
	return diagnose(err, cwd, func(name string) (lookedAt, error) { return lookIn(fmt.Sprintf("/proc/%d/root", pid), name) })
}

// diagnose looks at the program that a step could not start. A name that is not absolute counts from cwd.
func diagnose(err error, cwd string, look func(string) (lookedAt, error)) error {
	var step *runtime.StepError
	if !errors.As(err, &step) {
		return err
	}
	name, isProgram := step.Program()
	if !isProgram {
		return err
	}
	if !path.IsAbs(name) {
		name = path.Join("/", cwd, name)
	}
	_, executed := step.Step.Call.(linux.Execve)
	found := judge(name, step.Errno, executed, look)
	if found == nil {
		return err
	}
	found.Err = err
	return found
}
