package distribution

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containr/containr/internal/testkit"
	"github.com/containr/containr/pkg/image"
	"github.com/containr/containr/pkg/registry/serve"
)

// TestRegistryConforms: the suite has no objection, and has skipped nothing but what is optional and not offered.
func TestRegistryConforms(t *testing.T) {
	suite := buildSuite(t)
	store, err := image.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	store.Volatile = true
	server, err := serve.New(context.Background(), serve.Options{Store: store, Domain: "localhost:5000"})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	results := t.TempDir()
	cmd := exec.CommandContext(t.Context(), suite)
	cmd.Dir = results
	cmd.Env = append(os.Environ(),
		"OCI_REGISTRY="+front.Listener.Addr().String(), "OCI_TLS=disabled", "OCI_VERSION=1.1", "OCI_RESULTS_DIR="+results,
		"OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true",
		"OCI_API_BLOBS_MOUNT_ANONYMOUS=false")
	out, err := cmd.CombinedOutput()
	front.Close()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err != nil {
		t.Errorf("the suite: %v", err)
	}
	judge(t, string(out))
	if problems, err := store.Check(t.Context(), false); err != nil || len(problems) > 0 {
		t.Errorf("the store afterwards: %v, %v", problems, err)
	}
}

// count matches a line of the summary.
var count = regexp.MustCompile(`(?m)^ +(Pass|Skip|FAIL|Error|Total)\.*: +([0-9]+)$`)

// judge reads the summary.
func judge(t *testing.T, out string) {
	t.Helper()
	counts := map[string]string{}
	for _, found := range count.FindAllStringSubmatch(out, -1) {
		counts[found[1]] = found[2]
	}
	if !strings.Contains(out, "OCI Conformance Result: Pass") || counts["FAIL"] != "0" || counts["Error"] != "0" || counts["Skip"] != "0" || len(counts["Pass"]) < 3 {
		t.Errorf("counts %v\n%s", counts, out)
	}
	t.Logf("counts %v", counts)
}

// buildSuite builds the suite in the test cache, where it stays. The test is skipped where it cannot be had.
func buildSuite(t *testing.T) string {
	t.Helper()
	cache, err := testkit.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(cache, "distribution-conformance")
	lock, err := testkit.Lock(program + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if out, err := goCommand("mod", "download"); err != nil {
		t.Skipf("the suite cannot be fetched: %v\n%s", err, out)
	}
	if out, err := goCommand("build", "-trimpath", "-ldflags=-s -w", "-o", program, "tool"); err != nil {
		t.Fatalf("build the suite: %v\n%s", err, out)
	}
	return program
}

// goCommand runs the go command in the module of the suite.
func goCommand(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = "suite"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
