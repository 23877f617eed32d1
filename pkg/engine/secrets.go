package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/containr/containr/pkg/container"
	"github.com/containr/containr/pkg/plan"
	"github.com/containr/containr/pkg/plan/linux"
	"github.com/containr/containr/pkg/runtime"
	"github.com/containr/containr/pkg/secret"
)

// SecretRequest is what CreateSecret is asked for.
type SecretRequest struct {
	Name   string
	Labels map[string]string
	// Content is what it holds, 1 byte to secret.MaxSize.
	Content []byte
	// Replace has one of that name hold this from now on.
	Replace bool
}

// kept opens the store of a kind.
func (e *Engine) kept(kind *secret.Kind) (*secret.Store, error) {
	if kind == secret.Configs {
		return e.configs()
	}
	return e.secrets()
}

// CreateSecret keeps a secret or config.
func (e *Engine) CreateSecret(ctx context.Context, kind *secret.Kind, r SecretRequest) (secret.Secret, error) {
	store, err := e.kept(kind)
	if err != nil {
		return secret.Secret{}, err
	}
	return store.Create(ctx, secret.Secret{Name: r.Name, Labels: r.Labels}, r.Content, r.Replace)
}

// UsedSecret is a secret or config, and the names of the containers that have it.
type UsedSecret struct {
	secret.Secret
	Containers []string
	// Content is what a config holds, where one was asked for; that of a secret is not told.
	Content []byte
}

// Secrets lists all secrets or configs, by name. What they hold is not told.
func (e *Engine) Secrets(kind *secret.Kind) ([]UsedSecret, error) {
	store, err := e.kept(kind)
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	if err != nil {
		return nil, err
	}
	users, err := e.secretUsers(kind)
	var used []UsedSecret
	for _, v := range list {
		used = append(used, UsedSecret{Secret: v, Containers: users[v.Name]})
	}
	return used, err
}

// Secret finds a secret or config by its name, its id or the beginning of that.
func (e *Engine) Secret(kind *secret.Kind, name string) (UsedSecret, error) {
	store, err := e.kept(kind)
	if err != nil {
		return UsedSecret{}, err
	}
	v, err := store.Get(name)
	if err != nil {
		return UsedSecret{}, err
	}
	users, err := e.secretUsers(kind)
	used := UsedSecret{Secret: v, Containers: users[v.Name]}
	if err == nil && kind.Open {
		used.Content, err = store.Content(v.Name)
	}
	return used, err
}

// secretUsers lists for each secret or config the containers that have it, as their records say.
func (e *Engine) secretUsers(kind *secret.Kind) (map[string][]string, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	users := map[string][]string{}
	for _, r := range records {
		had := r.Config.Secrets
		if kind == secret.Configs {
			had = r.Config.Configs
		}
		for _, s := range had {
			if !slices.Contains(users[s.Name], r.Name) {
				users[s.Name] = append(users[s.Name], r.Name)
			}
		}
	}
	return users, err
}

// SecretInUseError says which containers have a secret or config.
type SecretInUseError struct {
	Kind       *secret.Kind
	Secret     string
	Containers []string
}

// Error says so.
func (e *SecretInUseError) Error() string {
	return fmt.Sprintf("%s %s: %v, by %s", e.Kind.Word, e.Secret, e.Kind.InUse(), strings.Join(e.Containers, ", "))
}

// Unwrap is secret.ErrInUse or secret.ErrConfigInUse.
func (e *SecretInUseError) Unwrap() error { return e.Kind.InUse() }

// RemoveSecret removes a secret or config that no container has.
func (e *Engine) RemoveSecret(ctx context.Context, kind *secret.Kind, name string) (secret.Secret, error) {
	store, err := e.kept(kind)
	if err != nil {
		return secret.Secret{}, err
	}
	return store.Remove(ctx, name, func(v secret.Secret) error {
		users, err := e.secretUsers(kind)
		if err == nil && len(users[v.Name]) > 0 {
			err = &SecretInUseError{kind, v.Name, users[v.Name]}
		}
		return err
	})
}

// findSecrets puts the names in the place of ids, and refuses secrets and configs that are not there.
func (e *Engine) findSecrets(c *container.Config) (err error) {
	if c.Secrets, err = e.findKept(secret.Secrets, c.Secrets); err == nil {
		c.Configs, err = e.findKept(secret.Configs, c.Configs)
	}
	return err
}

// holdSecrets keeps secrets and configs of a container from being removed until it has a record, which does so from then on; and
// looks for them once more, as they can be gone by now.
func (e *Engine) holdSecrets(ctx context.Context, p *prepared) error {
	for _, has := range []struct {
		kind   *secret.Kind
		wanted []container.Secret
	}{{secret.Secrets, p.config.Secrets}, {secret.Configs, p.config.Configs}} {
		if len(has.wanted) == 0 {
			continue
		}
		store, err := e.kept(has.kind)
		if err != nil {
			return err
		}
		lock, err := store.Hold(ctx)
		if err != nil {
			return err
		}
		p.held = append(p.held, lock)
		if _, err := e.findKept(has.kind, has.wanted); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) findKept(kind *secret.Kind, wanted []container.Secret) ([]container.Secret, error) {
	if len(wanted) == 0 {
		return wanted, nil
	}
	store, err := e.kept(kind)
	if err != nil {
		return nil, err
	}
	wanted = slices.Clone(wanted)
	for i := range wanted {
		v, err := store.Get(wanted[i].Name)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", kind.Word, err)
		}
		wanted[i].Name = v.Name
	}
	return wanted, nil
}

// writeConfigs writes what configs hold to files of a container, in a directory of its own, and returns them in the order of its
// configs. They stay what they are while the container is there.
func (e *Engine) writeConfigs(ctx context.Context, p *prepared, dir string) ([]string, error) {
	var files []string
	for i, c := range p.config.Configs {
		store, err := e.configs()
		if err != nil {
			return nil, err
		}
		content, err := store.Content(c.Name)
		if err != nil {
			return nil, err
		}
		uid, gid := int(c.UID), int(c.GID)
		if !p.home.idmapped && p.config.Namespaces.User != container.HostNamespace {
			uid, gid = outsideID(p.config.UIDMap, uid), outsideID(p.config.GIDMap, gid)
		}
		file := filepath.Join(dir, "config-"+strconv.Itoa(i))
		if err = os.WriteFile(file, content, 0o600); err == nil {
			err = os.Chmod(file, os.FileMode(c.Mode)) // before it is somebody else's, whose it is to change
		}
		if err == nil {
			err = e.own(ctx, dir, filepath.Base(file), uid, gid)
		}
		if err != nil {
			return nil, fmt.Errorf("config %s: %w", c.Name, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// secretVariables are the variables of a container's environment in which secrets are, by what is
// written in their place.
func (e *Engine) secretVariables(c container.Config) (map[string]string, error) {
	variables := map[string]string{}
	for _, s := range c.Secrets {
		if s.Env == "" {
			continue
		}
		store, err := e.secrets()
		if err != nil {
			return nil, err
		}
		content, err := store.Content(s.Name)
		if err != nil {
			return nil, err
		}
		text := string(content)
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("secret %s: it holds a zero byte, which no variable can: leave out type=env", s.Name)
		}
		variables[s.SecretVariable()] = s.Env + "=" + text
	}
	return variables, nil
}

// provideSecret makes the host's step that writes a secret into a container's memory.
func (e *Engine) provideSecret(c linux.Provide, regs map[plan.Reg]int) (err error) {
	store, err := e.secrets()
	if err != nil {
		return err
	}
	content, err := store.Content(c.Secret)
	if err != nil {
		return err
	}
	fd, err := unix.Openat(regs[c.To], c.File, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("secret %s: open: %w", c.Secret, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	for len(content) > 0 {
		n, err := unix.Write(fd, content)
		if err != nil {
			return fmt.Errorf("secret %s: write: %w", c.Secret, err)
		}
		content = content[n:]
	}
	mode, err := strconv.ParseUint(c.Mode, 8, 32)
	if err != nil {
		return fmt.Errorf("secret %s: mode: %w", c.Secret, err)
	}
	if err := unix.Fchmod(fd, uint32(mode)); err != nil {
		return fmt.Errorf("secret %s: chmod: %w", c.Secret, err)
	}
	return nil
}

// withSecrets adds that step to those that the runtime does not know itself.
func (e *Engine) withSecrets(a runtime.Actions) runtime.Actions {
	others := a.Do
	a.Do = func(call plan.Call, regs map[plan.Reg]int) (int, error) {
		if c, ok := call.(linux.Provide); ok {
			return 0, e.provideSecret(c, regs)
		}
		return others(call, regs)
	}
	return a
}
