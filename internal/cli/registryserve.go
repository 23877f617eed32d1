package cli

import (
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/containr/containr/pkg/engine"
	"github.com/containr/containr/pkg/registry/serve"
)

func (p *Program) registryCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "registry COMMAND",
		Short:   "Be a registry",
		GroupID: groupImages,
		Args:    cobra.ArbitraryArgs,
		RunE:    groupOfCommands,
	}
	cmd.AddCommand(p.registryServeCommand())
	return cmd
}

// serveFlags are the flags of `registry serve` that the engine does not know.
type serveFlags struct {
	maxBlob, maxHeld, keepFree string
	uploads                    int
	idle                       time.Duration
}

func (p *Program) registryServeCommand() *cobra.Command {
	var req engine.ServeRequest
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [FLAGS]",
		Short: "Serve images of the store as a registry",
		Long: "Serve images of the store as a registry, until you interrupt it: to pull from, to push to, to delete in.\n\n" +
			"Image NAME:TAG of the registry is image localhost:PORT/NAME:TAG of the store, and nothing else is served:\n" +
			"tag an image so, and it can be pulled; what is pushed is listed by `containr images` and runs. What a tag\n" +
			"meant before is kept, by its digest, until it is removed.",
		Example: "  containr tag debian localhost:5000/debian\n" +
			"  containr registry serve\n" +
			"  containr registry serve --listen 0.0.0.0:443 --tls-cert host.crt --tls-key host.key --auth users",
		Args:                  exactArgs(0),
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (req.Certificate == "") != (req.Key == "") {
				return usageErrorf("registry serve: --tls-cert and --tls-key go together")
			}
			if err := f.limits(&req.Limits); err != nil {
				return err
			}
			e, err := p.engine()
			if err != nil {
				return err
			}
			req.Ready = p.announceRegistry
			return e.Serve(cmd.Context(), req)
		},
	}
	d := serve.DefaultLimits()
	flags := cmd.Flags()
	flags.StringVar(&req.Listen, "listen", "127.0.0.1:5000", "listen at `HOST:PORT`; port 0 is any that is free")
	flags.StringVar(&req.Domain, "name", "", "what the registry is called in the store: `HOST[:PORT]`, by default localhost and its port")
	flags.StringVar(&req.Certificate, "tls-cert", "", "speak TLS, with the certificate in `FILE` (PEM)")
	flags.StringVar(&req.Key, "tls-key", "", "the certificate's key is in `FILE` (PEM)")
	flags.BoolVar(&req.ReadOnly, "readonly", false, "let nobody change anything")
	flags.StringVar(&req.Users, "auth", "", "ask for a user and his password, which `FILE` has as htpasswd -B writes it")
	flags.StringVar(&f.maxBlob, "max-blob", units.BytesSize(float64(d.Blob)), "take no blob of more than `SIZE`")
	flags.StringVar(&f.maxHeld, "max-held", units.BytesSize(float64(d.Held)), "hold at most `SIZE` of uploads that no manifest lists")
	flags.StringVar(&f.keepFree, "keep-free", units.BytesSize(float64(d.Free)), "leave `SIZE` of the disk free")
	flags.IntVar(&f.uploads, "max-uploads", d.Uploads, "take at most `N` uploads at a time")
	flags.DurationVar(&f.idle, "upload-idle", d.Idle, "give up an upload, or what no manifest lists, when nothing came of it for `TIME`")
	return cmd
}

// limits reads the flags that bound clients.
func (f serveFlags) limits(l *serve.Limits) error {
	for _, size := range []struct {
		flag, text string
		to         *int64
	}{{"max-blob", f.maxBlob, &l.Blob}, {"max-held", f.maxHeld, &l.Held}, {"keep-free", f.keepFree, &l.Free}} {
		n, err := units.RAMInBytes(size.text)
		if err != nil || n <= 0 {
			return usageErrorf("registry serve: --%s %s: use a size such as 16g", size.flag, size.text)
		}
		*size.to = n
	}
	if f.uploads <= 0 || f.idle <= 0 {
		return usageErrorf("registry serve: --max-uploads and --upload-idle must be more than nothing")
	}
	l.Uploads, l.Idle = f.uploads, f.idle
	return nil
}

// announceRegistry says where the registry is, and of what to beware.
func (p *Program) announceRegistry(s engine.Served) {
	fmt.Fprintf(p.Out, "listening at %s; image NAME is %s/NAME in the store\n", s.URL, s.Domain)
	if s.Open {
		fmt.Fprintln(p.Err, "warning: everybody who reaches this address can push and delete: --auth asks who it is, --readonly lets nobody")
	}
	if s.Bare {
		fmt.Fprintln(p.Err, "warning: passwords come over the network as they are: --tls-cert and --tls-key encrypt them")
	}
}
