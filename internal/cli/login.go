package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/containr/containr/internal/tty"
	"github.com/containr/containr/pkg/engine"
)

// loginFlags are the flags of `login` that the engine does not know.
type loginFlags struct {
	stdin bool
}

func (p *Program) loginCommand() *cobra.Command {
	var req engine.LoginRequest
	var f loginFlags
	cmd := &cobra.Command{
		Use:     "login [FLAGS] [REGISTRY]",
		Short:   "Keep a user name and a password for a registry",
		GroupID: groupImages,
		Long: "Try a user name and a password with a registry, and keep them if they are right.\n\n" +
			"They are kept where docker keeps them, in ~/.docker/config.json or with the helper program\n" +
			"that it names, or in the file that REGISTRY_AUTH_FILE names. Without REGISTRY it is Docker\n" +
			"Hub. What is not given is asked for; a password is read from standard input if that is\n" +
			"no terminal and --password-stdin says so, and never shown.",
		Example:               "  containr login registry.example\n  containr login -u me --password-stdin registry.example <password",
		Args:                  rangeArgs(0, 1),
		DisableFlagsInUseLine: true,
	}
	finish := bindAccess(cmd.Flags(), &req.RegistryAccess)
	cmd.Flags().StringVarP(&req.Username, "username", "u", "", "user `NAME`")
	cmd.Flags().StringVarP(&req.Password, "password", "p", "", "the `PASSWORD`, which others on this machine can then see: use --password-stdin")
	cmd.Flags().BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		finish()
		if len(args) == 1 {
			req.Registry = args[0]
		}
		if err := p.askLogin(cmd.Context(), &req, f, cmd.Flags().Changed("password")); err != nil {
			return err
		}
		e, err := p.engine()
		if err != nil {
			return err
		}
		in, err := e.Login(cmd.Context(), req)
		if err != nil {
			return err
		}
		return p.printLogin(in)
	}
	return cmd
}

// askLogin completes user name and password.
func (p *Program) askLogin(ctx context.Context, req *engine.LoginRequest, f loginFlags, given bool) (err error) {
	p.awaitCatching()
	switch {
	case given && f.stdin:
		return usageErrorf("login: --password and --password-stdin exclude each other")
	case f.stdin && req.Username == "":
		return &usageError{text: "login: --password-stdin needs a user name", hint: "add --username NAME"}
	case given:
		fmt.Fprintln(p.Err, "warning: a password on the command line is seen by all who can list processes, and kept by shells: use --password-stdin")
	case f.stdin:
		if req.Password, err = tty.ReadSecret(p.input(ctx)); err != nil {
			return fmt.Errorf("login: password from standard input: %w", err)
		}
	case !tty.IsTerminal(p.In):
		return &usageError{text: "login: standard input is no terminal to ask for the password at", hint: "pass it with --password-stdin"}
	}
	if req.Username == "" {
		if req.Username, err = tty.Ask(ctx, p.In, p.Err, "Username: ", false); err != nil {
			return err
		}
	}
	if !given && !f.stdin {
		if req.Password, err = tty.Ask(ctx, p.In, p.Err, "Password: ", true); err != nil {
			return err
		}
	}
	if req.Username == "" || req.Password == "" {
		return usageErrorf("login: user name and password must not be empty")
	}
	return nil
}

// printLogin says where the credential went.
func (p *Program) printLogin(in *engine.LoggedIn) error {
	if !in.Checked {
		fmt.Fprintf(p.Err, "warning: %s asked for no password: whether this one is right is not known\n", in.Registry)
	}
	if in.Helper == "" {
		fmt.Fprintf(p.Err, "kept in %s, not encrypted; a helper program keeps it better (credsStore)\n", in.File)
	}
	_, err := fmt.Fprintln(p.Out, "Login Succeeded")
	return err
}

func (p *Program) logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "logout [REGISTRY]",
		Short:   "Forget the user name and password for a registry",
		GroupID: groupImages,
		Long:    "Forget what login kept for a registry, in every file that has it. Without REGISTRY it is\nDocker Hub.",
		Args:    rangeArgs(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var req engine.LogoutRequest
			if len(args) == 1 {
				req.Registry = args[0]
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			host, removed, err := e.Logout(cmd.Context(), req)
			if err != nil {
				return err
			}
			for _, w := range removed {
				where := w.File
				if w.Helper != "" {
					where = "docker-credential-" + w.Helper
				}
				if _, err := fmt.Fprintf(p.Out, "Removed login credentials for %s from %s\n", host, where); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
