// Package secret keeps passwords, keys and the like for containers, encrypted, and files of configuration as they are.
//
// # Theory of operation
//
//	secrets/NAME.json  what it is, and its content, sealed
//	secrets/key        the key of all, 32 random bytes
//	secrets.lock       held by who makes or removes one
//
// A secret is one file that is replaced as a whole (package durable), so that a crash or a full disk at any moment leaves
// the old one or the new one. Its content is sealed by AES-256-GCM of Go's standard library, with a random nonce; name and
// id are authenticated with it, so that the file of one secret is not taken for another's.
//
// The key is made with the first secret. It lies beside them, as containers must start without anybody to ask for a
// password. So sealing protects where the files go without the key: a copy or a backup of single files, a search through the
// disk, a file that was handed to somebody to look at. It does not protect from root of this machine, nor from who has
// copied all of the state root. A key that lies elsewhere, such as on a file system in memory or on a stick, is a symbolic
// link in the place of the file.
//
// Files of configuration are kept in the same way, in a directory and under words of their own: see Kind. Nothing of them is
// sealed, and they have no key.
//
// What they hold is bounded by MaxSize. Nothing here prints content, and no error holds any of it.
package secret

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containr/containr/internal/durable"
	"github.com/containr/containr/internal/spelling"
)

// DriverFile is the only driver: a file here.
const DriverFile = "file"

// MaxSize is how long a secret may be, in bytes: docker's limit.
const MaxSize = 500 << 10

// Kind is what a store keeps.
type Kind struct {
	// Word is what one is called.
	Word string
	// Open says that what they hold is no secret: it is kept as it is.
	Open bool

	notFound, exists, inUse error
}

// The kinds.
var (
	Secrets = &Kind{Word: "secret", notFound: ErrNotFound, exists: ErrExists, inUse: ErrInUse}
	// Configs are files of configuration: the same without the key.
	Configs = &Kind{Word: "config", Open: true, notFound: ErrNoConfig, exists: ErrConfigExists, inUse: ErrConfigInUse}
)

// InUse is the error of one that containers have.
func (k *Kind) InUse() error { return k.inUse }

// NotFound is the error of one that is not there.
func (k *Kind) NotFound() error { return k.notFound }

// Errors that callers tell apart.
var (
	// ErrNoConfig means that there is no config of that name, ErrConfigExists that there is one already, and
	// ErrConfigInUse that containers have it.
	ErrNoConfig     = errors.New("no such config")
	ErrConfigExists = errors.New("there is a config of this name")
	ErrConfigInUse  = errors.New("the config is in use")

	// ErrNotFound means that there is no secret of that name.
	ErrNotFound = errors.New("no such secret")
	// ErrExists means that there is one already.
	ErrExists = errors.New("there is a secret of this name")
	// ErrInUse means that containers have it.
	ErrInUse = errors.New("the secret is in use")
	// ErrName means that a name is none for a secret or config.
	ErrName = errors.New("no name for a secret or config")
	// ErrSealed means that a secret cannot be opened: its file, or the key, is not what it was.
	ErrSealed = errors.New("the secret cannot be opened")
)

// Secret is what may be known of a secret.
type Secret struct {
	Version int               `json:"version"`
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Driver  string            `json:"driver"`
	Created time.Time         `json:"created"`
	Updated time.Time         `json:"updated"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// stored is a secret's file, or a config's.
type stored struct {
	Secret
	Sealed []byte `json:"sealed,omitempty"`
	Data   []byte `json:"data,omitempty"`
}

const (
	version = 1
	suffix  = ".json"
	keyFile = "key"
	keySize = 32
)

// Store is a directory of secrets, or of configs. Any number of processes may use one.
type Store struct {
	dir string
	*Kind
}

// Open opens the store of a kind in a directory, which is made if it is missing.
func Open(dir string, kind *Kind) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s store: %w", kind.Word, err)
	}
	return &Store{dir, kind}, nil
}

func isName(s string) bool { return spelling.IsName(s, 128) }

// ValidateName refuses what is no name for one.
func (k *Kind) ValidateName(name string) error {
	if !isName(name) {
		return fmt.Errorf("%s name %q: use letters, digits and _.- after a letter or digit, at most 128: %w", k.Word, name, ErrName)
	}
	return nil
}

// NotFoundError says that there is none of a name, and which one may be meant.
type NotFoundError struct {
	Kind       *Kind
	Name, Near string
}

// Error says so.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("%s %s: %v", e.Kind.Word, e.Name, e.Kind.notFound)
}

// Unwrap is ErrNotFound or ErrNoConfig.
func (e *NotFoundError) Unwrap() error { return e.Kind.notFound }

func (s *Store) path(name string) string { return filepath.Join(s.dir, name+suffix) }

// Hold keeps what there is from being removed, and changed, until it is released or its process dies.
func (s *Store) Hold(ctx context.Context) (*durable.Lock, error) {
	return durable.Acquire(ctx, filepath.Join(s.dir, "..", s.Word+"s.lock"), durable.Shared)
}

func (s *Store) lock(ctx context.Context) (*durable.Lock, error) {
	return durable.Acquire(ctx, filepath.Join(s.dir, "..", s.Word+"s.lock"), durable.Exclusive)
}

// Create keeps content under a name. With replace one of that name gets the new content, and its id stays, and its labels if none are given; containers
// see it when they are started the next time. Version, ID, Driver and times are filled in.
func (s *Store) Create(ctx context.Context, v Secret, content []byte, replace bool) (Secret, error) {
	if err := s.ValidateName(v.Name); err != nil {
		return v, err
	}
	if len(content) > MaxSize { // a caller need not have read all
		return v, fmt.Errorf("%[1]s %[2]s: more than %[3]d bytes: a %[1]s has 1 to %[3]d", s.Word, v.Name, MaxSize)
	}
	if len(content) == 0 {
		return v, fmt.Errorf("%[1]s %[2]s: %[3]d bytes: a %[1]s has 1 to %[4]d", s.Word, v.Name, len(content), MaxSize)
	}
	lock, err := s.lock(ctx)
	if err != nil {
		return v, err
	}
	defer lock.Release()
	if err := s.sweep(); err != nil {
		return v, err
	}
	now := time.Now().UTC()
	v.Version, v.Driver, v.ID, v.Created, v.Updated = version, DriverFile, newID(), now, now
	old, err := s.read(v.Name)
	switch {
	case err == nil && !replace:
		return v, fmt.Errorf("%s %s: %w", s.Word, v.Name, s.exists)
	case err == nil:
		v.ID, v.Created = old.ID, old.Created
		if len(v.Labels) == 0 {
			v.Labels = old.Labels
		}
	case !errors.Is(err, fs.ErrNotExist) && !replace:
		return v, err
	}
	file := stored{Secret: v, Data: content}
	if !s.Open {
		key, err := s.key(true)
		if err != nil {
			return v, err
		}
		file.Sealed, file.Data = key.Seal(nil, nil, content, v.bound()), nil
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return v, err
	}
	if err := durable.WriteFile(s.path(v.Name), append(text, '\n'), durable.Options{}); err != nil {
		return v, fmt.Errorf("%s %s: %w", s.Word, v.Name, err)
	}
	return v, nil
}

// bound is what is authenticated with the content.
func (v *Secret) bound() []byte { return []byte("containr secret 1\x00" + v.Name + "\x00" + v.ID) }

// newID has the form of those of docker and podman: 25 characters.
func newID() string {
	var b [13]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])[:25]
}

// sweep takes away what a crash has left of files that were being written. The lock is held.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("%s store: %w", s.Word, err)
	}
	for _, e := range entries {
		if durable.IsTemporary(e.Name()) {
			err = errors.Join(err, os.Remove(filepath.Join(s.dir, e.Name())))
		}
	}
	return err
}

// key reads the key, and makes it if it may: the lock is held then.
func (s *Store) key(create bool) (cipher.AEAD, error) {
	path := filepath.Join(s.dir, keyFile)
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		if _, linked := os.Lstat(path); linked == nil {
			return nil, fmt.Errorf("key of secrets: %s is a link to nothing: %w", path, err)
		}
		if list, listErr := s.List(); listErr != nil || len(list) > 0 {
			return nil, errors.Join(fmt.Errorf("key of secrets: %s is gone, and with it what %d secrets hold: %w", path, len(list), ErrSealed), listErr)
		}
		key = make([]byte, keySize)
		rand.Read(key)
		err = durable.WriteFile(path, key, durable.Options{})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key of secrets: %s is gone, and with it what the secrets hold: %w", path, ErrSealed)
	}
	if err != nil {
		return nil, fmt.Errorf("key of secrets: %w", err)
	}
	if len(key) != keySize {
		return nil, fmt.Errorf("key of secrets: %s has %d bytes, not %d: %w", path, len(key), keySize, ErrSealed)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (s *Store) read(name string) (stored, error) {
	var v stored
	path := s.path(name)
	data, err := os.ReadFile(path)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, fmt.Errorf("%s: %w", path, err)
	}
	if v.Version > version {
		return v, fmt.Errorf("%s: layout %d: written by a newer containr", path, v.Version)
	}
	return v, nil
}

// List returns all secrets, by name.
func (s *Store) List() ([]Secret, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("%s store: %w", s.Word, err)
	}
	var list []Secret
	var failures []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || durable.IsTemporary(e.Name()) {
			continue
		}
		v, err := s.read(name)
		switch {
		case err == nil:
			list = append(list, v.Secret)
		case !errors.Is(err, fs.ErrNotExist): // it went away meanwhile
			failures = append(failures, err)
		}
	}
	slices.SortFunc(list, func(a, b Secret) int { return strings.Compare(a.Name, b.Name) })
	return list, errors.Join(failures...)
}

// Get finds a secret by its name, its id, or the beginning of its id if that is no other's.
func (s *Store) Get(name string) (Secret, error) {
	if isName(name) {
		v, err := s.read(name)
		if !errors.Is(err, fs.ErrNotExist) {
			return v.Secret, err
		}
	}
	list, err := s.List()
	var names []string
	var found []Secret
	for _, v := range list {
		names = append(names, v.Name)
		if len(name) > 0 && strings.HasPrefix(v.ID, name) {
			found = append(found, v)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return Secret{}, errors.Join(&NotFoundError{s.Kind, name, spelling.Nearest(name, names)}, err)
}

// Content opens a secret, for a name that Get or List returned.
func (s *Store) Content(name string) ([]byte, error) {
	v, err := s.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotFoundError{Kind: s.Kind, Name: name}
	}
	if err != nil {
		return nil, err
	}
	if s.Open {
		return v.Data, nil
	}
	key, err := s.key(false)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	content, err := key.Open(nil, nil, v.Sealed, (&Secret{Name: name, ID: v.ID}).bound())
	if err != nil {
		return nil, fmt.Errorf("secret %s: %s or %s is not what it was: %w", name, s.path(name), filepath.Join(s.dir, keyFile), ErrSealed)
	}
	return content, nil
}

// Remove removes a secret unless check, which is called while nobody makes one, has an error.
func (s *Store) Remove(ctx context.Context, name string, check func(Secret) error) (Secret, error) {
	lock, err := s.lock(ctx)
	if err != nil {
		return Secret{}, err
	}
	defer lock.Release()
	v, err := s.Get(name)
	if err != nil {
		return v, err
	}
	if err := check(v); err != nil {
		return v, err
	}
	if err := os.Remove(s.path(v.Name)); err != nil {
		return v, fmt.Errorf("%s %s: %w", s.Word, v.Name, err)
	}
	return v, durable.SyncDir(s.dir)
}
