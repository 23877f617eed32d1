package serve

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// Users are who may use a registry, by name and password: the lines of a file that `htpasswd -B`
// writes. A nil *Users lets everybody in.
type Users struct {
	hashes map[string]string // bcrypt, by user name
	decoy  string            // to compare with where there is no such user, which takes as long

	mu    sync.Mutex
	known map[string][sha256.Size]byte // passwords that were right, hashed: bcrypt is slow on purpose
}

// maxUsers bounds a file of users.
const maxUsers = 100_000

// ReadUsers reads a file of users. Only hashes of bcrypt are taken: the others of htpasswd can be
// tried out by the billion.
func ReadUsers(path string) (*Users, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	u := &Users{hashes: map[string]string{}, known: map[string][sha256.Size]byte{}}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s:%d: it is not USER:HASH", path, n)
		}
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return nil, fmt.Errorf("%s:%d: the password of %q is not hashed by bcrypt, as htpasswd -B does", path, n, name)
		}
		if len(u.hashes) == maxUsers {
			return nil, fmt.Errorf("%s: more than %d users", path, maxUsers)
		}
		u.hashes[name], u.decoy = hash, hash
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(u.hashes) == 0 {
		return nil, fmt.Errorf("%s: there is no user in it", path)
	}
	return u, nil
}

// check returns the name of who asks.
func (u *Users) check(r *http.Request) (string, error) {
	if u == nil {
		return "", nil
	}
	name, password, ok := r.BasicAuth()
	if ok && u.matches(name, password) {
		return name, nil
	}
	return "", refuse(http.StatusUnauthorized, unauthorized, "a user name and its password are wanted")
}

func (u *Users) matches(name, password string) bool {
	sum := sha256.Sum256([]byte(name + "\x00" + password))
	u.mu.Lock()
	known, ok := u.known[name]
	u.mu.Unlock()
	if ok && subtle.ConstantTimeCompare(known[:], sum[:]) == 1 {
		return true
	}
	hash, exists := u.hashes[name]
	if !exists {
		hash = u.decoy
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !exists {
		return false
	}
	u.mu.Lock()
	u.known[name] = sum
	u.mu.Unlock()
	return true
}
