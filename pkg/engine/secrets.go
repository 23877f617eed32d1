package engine

import (
	"context"
	"errors"
	"fmt"
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

// CreateSecret keeps a secret.
func (e *Engine) CreateSecret(ctx context.Context, r SecretRequest) (secret.Secret, error) {
	store, err := e.secrets()
	if err != nil {
		return secret.Secret{}, err
	}
	return store.Create(ctx, secret.Secret{Name: r.Name, Labels: r.Labels}, r.Content, r.Replace)
}

// UsedSecret is a secret, and the names of the containers that have it.
type UsedSecret struct {
	secret.Secret
	Containers []string
}

// Secrets lists all secrets, by name. What they hold is not told.
func (e *Engine) Secrets() ([]UsedSecret, error) {
	store, err := e.secrets()
	if err != nil {
		return nil, err
	}
	list, err := store.List()
	if err != nil {
		return nil, err
	}
	users, err := e.secretUsers()
	var used []UsedSecret
	for _, v := range list {
		used = append(used, UsedSecret{v, users[v.Name]})
	}
	return used, err
}

// Secret finds a secret by its name, its id or the beginning of that.
func (e *Engine) Secret(name string) (UsedSecret, error) {
	store, err := e.secrets()
	if err != nil {
		return UsedSecret{}, err
	}
	v, err := store.Get(name)
	if err != nil {
		return UsedSecret{}, err
	}
	users, err := e.secretUsers()
	return UsedSecret{v, users[v.Name]}, err
}

// secretUsers lists for each secret the containers that have it, as their records say.
func (e *Engine) secretUsers() (map[string][]string, error) {
	containers, err := e.containers()
	if err != nil {
		return nil, err
	}
	records, err := containers.List()
	users := map[string][]string{}
	for _, r := range records {
		for _, s := range r.Config.Secrets {
			if !slices.Contains(users[s.Name], r.Name) {
				users[s.Name] = append(users[s.Name], r.Name)
			}
		}
	}
	return users, err
}

// SecretInUseError says which containers have a secret.
type SecretInUseError struct {
	Secret     string
	Containers []string
}

// Error says so.
func (e *SecretInUseError) Error() string {
	return fmt.Sprintf("secret %s: %v, by %s", e.Secret, secret.ErrInUse, strings.Join(e.Containers, ", "))
}

// Unwrap is secret.ErrInUse.
func (e *SecretInUseError) Unwrap() error { return secret.ErrInUse }

// RemoveSecret removes a secret that no container has.
func (e *Engine) RemoveSecret(ctx context.Context, name string) (secret.Secret, error) {
	store, err := e.secrets()
	if err != nil {
		return secret.Secret{}, err
	}
	return store.Remove(ctx, name, func(v secret.Secret) error {
		users, err := e.secretUsers()
		if err == nil && len(users[v.Name]) > 0 {
			err = &SecretInUseError{v.Name, users[v.Name]}
		}
		return err
	})
}

// findSecrets puts the names in the place of ids, and refuses a secret that is not there.
func (e *Engine) findSecrets(c *container.Config) error {
	if len(c.Secrets) == 0 {
		return nil
	}
	store, err := e.secrets()
	if err != nil {
		return err
	}
	c.Secrets = slices.Clone(c.Secrets)
	for i := range c.Secrets {
		v, err := store.Get(c.Secrets[i].Name)
		if err != nil {
			return fmt.Errorf("--secret: %w", err)
		}
		c.Secrets[i].Name = v.Name
	}
	return nil
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
