package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/engine"
)

func (p *Program) seccompCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "seccomp COMMAND",
		Short:   "Make filters of system calls",
		GroupID: groupSystem,
		Args:    cobra.ArbitraryArgs,
		RunE:    groupOfCommands,
	}
	profile := &cobra.Command{
		Use:   "profile COMMAND",
		Short: "Make profiles for --security-opt seccomp=FILE",
		Args:  cobra.ArbitraryArgs,
		RunE:  groupOfCommands,
	}
	profile.AddCommand(p.seccompRecordCommand())
	cmd.AddCommand(profile)
	return cmd
}

func (p *Program) seccompRecordCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "record [FLAGS] [--] [RUN-FLAGS] IMAGE [COMMAND] [ARG...]",
		Short: "Run a program, and write the profile that allows what it called",
		Long: "Run a program in a new container, as `containr run --rm` does, and write a seccomp profile that allows the\n" +
			"system calls that were made, and no others. Flags of run follow `--`.\n\n" +
			"While it is recorded the container has the filter that it would have had, so the profile never allows more than\n" +
			"that one: --security-opt seccomp=strict behind `--` makes it stricter. Calls of programs that `containr exec`\n" +
			"adds meanwhile count, too. A profile is as good as the run: what the program did not do, such as to handle an\n" +
			"error, it may not do later. Each call waits for the recorder, so the program is slower.\n\n" +
			"The profile is in OCI's form, and the same calls give the same file. Without --output it goes to standard output,\n" +
			"and what the container writes there to standard error. The exit status is that of run. If the program could not be\n" +
			"started, no profile is written.",
		Example: "  containr seccomp profile record -o sort.json -- -i base sort\n" +
			"  containr seccomp profile record -o web.json -- --name web -p 8080:80 web-server\n" +
			"  containr run --security-opt seccomp=sort.json -i base sort",
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := p.recordSeccomp(cmd.Context(), output, args)
			var usage *usageError
			var status *statusError
			switch {
			case errors.As(err, &usage), errors.As(err, &status), errors.Is(err, context.Canceled):
				return err
			case err != nil:
				return &statusError{engine.ExitStatus(err), err}
			case code != 0:
				return &statusError{code, nil}
			}
			return nil
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVarP(&output, "output", "o", "", "write the profile to `FILE`, when the container has ended")
	return cmd
}

// checkRecorded refuses what a run that is recorded cannot have.
func checkRecorded(flags *runFlags, c container.Config) error {
	for flag, said := range map[string]bool{"--detach": flags.detach, "--restart": c.Restart.Wanted(), "--health-cmd": c.Health.Command != "", "--health-http": c.Health.Probe != "", "--log-driver": c.LogDriver != ""} {
		if said {
			return &usageError{text: "seccomp profile record: " + flag + " cannot be used: the container is recorded in the foreground, from its beginning to its end", hint: "leave out " + flag}
		}
	}
	return nil
}

func (p *Program) recordSeccomp(ctx context.Context, output string, args []string) (int, error) {
	flags, config, err := p.readRun(args)
	if err == nil && config.Image == "run" && config.Rootfs == "" { // else an image of that name is asked for at a registry
		err = &usageError{text: "seccomp profile record: run is no image: what is recorded is a run anyway", hint: "leave out the word run: containr seccomp profile record [-o FILE] -- " + strings.Join(args[slices.Index(args, "run")+1:], " ")}
	}
	if err == nil {
		err = checkRecorded(flags, config)
	}
	if err == nil {
		err = checkOutput(output)
	}
	if err != nil {
		return 0, err
	}
	out := p.Out
	if output == "" {
		p.Out = p.Err
		defer func() { p.Out = out }()
	}
	var learned *specs.LinuxSeccomp
	flags.record = func(l *specs.LinuxSeccomp) { learned = l }
	code, err := p.run(ctx, config, flags)
	if err != nil {
		return 0, p.suggestImage(config, err)
	}
	text, err := profileText(learned)
	if err != nil {
		return 0, err
	}
	if output == "" {
		_, err = out.Write(text)
	} else {
		err = writeText(output, text)
	}
	return code, err
}

// writeText writes a small file that is no secret.
func writeText(path string, text []byte) error {
	const mode = 0o644
	return engine.WriteFile(path, mode, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// checkOutput finds, before anything runs, that a file could not be made.
func checkOutput(path string) error {
	if path == "" {
		return nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return usageErrorf("--output %s: not a regular file", path)
	}
	probe, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return &usageError{text: fmt.Sprintf("--output %s: %v", path, err), err: err}
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// profileText writes a profile as people read it.
func profileText(l *specs.LinuxSeccomp) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(l)
	return b.Bytes(), err
}
