package registry

import (
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/containr/containr/internal/shellword"
	"github.com/containr/containr/pkg/image"
)

// Curl writes exchanges as a script for a shell, in which curl makes the same requests.
// Secrets are variables that its user has to set: NAME, PASSWORD, IDENTITY_TOKEN.
type Curl struct {
	w   io.Writer
	err error
}

// NewCurl returns a Curl that writes to w.
func NewCurl(w io.Writer) *Curl { return &Curl{w: w} }

// Err returns the first error in writing.
func (c *Curl) Err() error { return c.err }

func (c *Curl) line(format string, args ...any) {
	if c.err == nil {
		_, c.err = fmt.Fprintf(c.w, format+"\n", args...)
	}
}

// Tell writes one exchange. It is a function for [Access.Trace], for one request at a time.
func (c *Curl) Tell(e Exchange) {
	u, err := url.Parse(e.URL)
	switch {
	case e.Method == "":
		c.line("\n# %s", c.why(e))
	case err != nil:
		c.line("# %s", printable(e.URL))
	case e.Redirected:
		c.line("# It sent us on to %s. -L follows, and leaves the token behind if the host is another one.", printable(u.Host))
	case e.Err != nil:
		c.line("\n# %s\n#%s\n# No answer: %s", c.why(e), c.command(e, u), printable(e.Err.Error()))
	case e.Token:
		c.line("TOKEN=$(%s | sed -n 's/.*\"\\(access_\\)\\{0,1\\}token\" *: *\"\\([^\"]*\\)\".*/\\2/p')", c.command(e, u))
	case e.Status == 401:
		c.line("\n# %s\n#%s", c.why(e), c.command(e, u))
		c.line("# 401: it wants to know who asks: %s", printable(e.Challenge))
	default:
		c.line("\n# %s", c.why(e))
		c.line("%s", strings.TrimPrefix(c.command(e, u), " "))
		c.check(u)
	}
}

func (c *Curl) why(e Exchange) string {
	if e.Why == "" {
		return e.Method
	}
	return printable(e.Why)
}

// command is the line for one request, up to its URL.
func (c *Curl) command(e Exchange, u *url.URL) string {
	words := []string{" curl -fsSL"}
	if e.Token {
		words = []string{"curl -fsSL"}
	}
	switch {
	case e.User != "":
		words = append(words, `-u "$NAME:$PASSWORD"`)
	case e.Header.Get("Authorization") == "Bearer":
		words = append(words, `-H "Authorization: Bearer $TOKEN"`)
	}
	for _, key := range []string{"Accept", "Range"} {
		if values := e.Header.Values(key); len(values) > 0 {
			words = append(words, "-H "+shellword.Quote(key+": "+strings.Join(values, ", ")))
		}
	}
	for _, key := range sortedKeys(e.Form) {
		switch key {
		case "refresh_token":
			words = append(words, `--data-urlencode "refresh_token=$IDENTITY_TOKEN"`)
		case "password":
			words = append(words, `--data-urlencode "password=$PASSWORD"`)
		default:
			words = append(words, "--data-urlencode "+shellword.Quote(key+"="+e.Form.Get(key)))
		}
	}
	if !e.Token {
		words = append(words, "-o "+file(u))
	}
	return strings.Join(append(words, shellword.Quote(e.URL)), " ")
}

func sortedKeys(form url.Values) []string {
	var keys []string
	for key := range form {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// check writes the line that verifies what was asked for by its digest.
func (c *Curl) check(u *url.URL) {
	d, err := image.ParseDigest(path.Base(u.Path))
	if err != nil {
		return
	}
	c.line("echo '%s  %s' | %ssum -c --quiet", d.Encoded(), file(u), d.Algorithm())
}

// file is what the answer is called: by its digest, or by its tag.
func file(u *url.URL) string {
	name := path.Base(u.Path)
	if d, err := image.ParseDigest(name); err == nil {
		return d.Encoded()
	}
	return shellword.Quote(name + ".json")
}
