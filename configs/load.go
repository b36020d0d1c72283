package configs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	commonconfig "github.com/prometheus/common/config"

	"github.com/seed-de83e32b/governor/actuators/little"
	"github.com/seed-de83e32b/governor/configs/internal/httpconfig"
	"github.com/seed-de83e32b/governor/configs/internal/strict"
)

// Problem is one thing wrong with a configuration file or, in a list of warnings, one unusual thing. Line and Column
// count from 1; Path names the key, or is "" for the file as a whole.
type Problem struct {
	File         string
	Line, Column int
	Path         string
	Text         string // the mistake, the offending value, what was expected
}

// String formats the Problem on one line, in the form that editors and CI systems recognize: file:line:column: …
func (p Problem) String() string {
	if p.Path == "" {
		return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Line, p.Column, p.Path, p.Text)
}

// Problems is a list of Problem, sorted by position. As an error it has one line per Problem.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Load reads and checks the file. If the file can be read but is not valid, the error is a Problems with everything
// that is wrong. Warnings are returned for a valid file only.
func Load(file string) (*Config, Problems, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(file, data)
}

// Parse is Load for text that is already in memory. Relative paths in it start at the folder of file.
func Parse(file string, data []byte) (*Config, Problems, error) {
	sum := sha256.Sum256(data)
	c := &Config{File: file, Hash: hex.EncodeToString(sum[:])[:12]}
	c.Prometheus.HTTPClientConfig = commonconfig.DefaultHTTPClientConfig

	types := httpconfig.Types
	types.Removed = removed
	doc := strict.Decode(data, c, types)
	check := checker{doc: doc}
	check.config(c)
	if len(doc.Problems) > 0 {
		return nil, nil, problems(file, doc.Problems)
	}
	dir := filepath.Dir(file)
	c.Prometheus.SetDirectory(dir)
	for _, path := range []*string{
		&c.Consul.TokenFile, &c.Consul.TLSConfig.CAFile, &c.Consul.TLSConfig.CertFile, &c.Consul.TLSConfig.KeyFile,
	} {
		*path = commonconfig.JoinDir(dir, *path)
	}
	return c, problems(file, check.warnings), nil
}

func problems(file string, ps []strict.Problem) Problems {
	strict.Sort(ps)
	var out Problems
	for _, p := range slices.Compact(ps) {
		out = append(out, Problem{File: file, Line: p.Line, Column: p.Column, Path: p.Path, Text: p.Text})
	}
	return out
}

// removed lists the keys of earlier versions.
var removed = map[reflect.Type]map[string]string{
	reflect.TypeFor[Tuning](): {
		"overload_at": fmt.Sprintf("guard and governor both count a limit as binding from %.0f%% on, so that they cannot "+
			"disagree; remove the line", 100*little.BindingAt),
	},
}
