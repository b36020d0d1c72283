package signals

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/common/config"
)

// Credentials that were rotated in their file are used by the next query, without a reload.
func TestCredentialFilesAreReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for name, options := range map[string]config.HTTPClientConfig{
		"bearer token": {Authorization: &config.Authorization{Type: "Bearer", CredentialsFile: file}},
		"password":     {BasicAuth: &config.BasicAuth{Username: "u", PasswordFile: file}},
	} {
		var got string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, got, _ = r.BasicAuth()
			if got == "" {
				got = r.Header.Get("Authorization")[len("Bearer "):]
			}
			w.WriteHeader(http.StatusUnauthorized)
		}))
		var c *client
		for _, secret := range []string{"first", "second"} {
			if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if c == nil {
				var err error
				if c, err = newClient(Options{URL: server.URL, HTTP: &options}); err != nil {
					t.Fatal(err)
				}
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _, _ = c.Do(t.Context(), request)
			if got != secret {
				t.Errorf("%s: sent %q, want %q from the file", name, got, secret)
			}
		}
		c.CloseIdleConnections()
		server.Close()
	}
}
