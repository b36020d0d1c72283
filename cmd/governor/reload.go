package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"reflect"
	"time"

	"github.com/oklog/run"
	"go.yaml.in/yaml/v3"

	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/signals"
)

// load reads the configuration. Its errors read as in check-config.
func load(file string, log *slog.Logger) (*configs.Config, error) {
	config, warnings, err := configs.Load(file)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		log.Warn("configuration", "problem", w.String())
	}
	return config, nil
}

// setupOf builds the part of the daemon that a reload replaces.
func setupOf(config *configs.Config, loaded time.Time) (daemon.Setup, error) {
	sensor, err := signals.New(config.SensorOptions(), config.Signals())
	if err != nil {
		return daemon.Setup{}, fmt.Errorf("the sensor for %s: %w", config.Prometheus.URL, err)
	}
	groups, err := groupsOf(sensor, config)
	if err != nil {
		sensor.Close()
		return daemon.Setup{}, err
	}
	return daemon.Setup{
		Groups:     groups,
		Prometheus: func() api.Dependency { return dependency(sensor.Health()) },
		Lease:      time.Duration(config.Consul.Lease),
		Config:     api.ConfigInfo{File: config.File, Hash: config.Hash, LoadedAt: loaded},
		Close:      sensor.Close,
	}, nil
}

// reload reads the file again. The connection to Consul is the one thing that a running governor cannot change: its
// lock, and with it the right to write, hangs on it.
func (l *learner) reload(started *configs.Config, log *slog.Logger) (daemon.Setup, error) {
	config, err := load(started.File, log)
	if err != nil {
		return daemon.Setup{}, err
	}
	before, now := started.Consul, config.Consul
	now.Lease = before.Lease
	if !reflect.DeepEqual(before, now) {
		return daemon.Setup{}, errors.New(config.File +
			": consul: only the key lease can change while governor runs: restart governor, the standbys first")
	}
	return l.setup(config)
}

// addReloads reloads on SIGHUP. The log, the metrics and the status show the outcome.
func addReloads(g *run.Group, d *daemon.Daemon) {
	onHangup(g, func(ctx context.Context) { _ = d.Reload(ctx) })
}

// onHangup calls reload on SIGHUP while g runs.
func onHangup(g *run.Group, reload func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	g.Add(func() error { interrupt.OnHangup(ctx, reload); return nil }, func(error) { cancel() })
}

// reloadSecrets reads the token and the certificates for Consul again.
func reloadSecrets(client *consul.Client, log *slog.Logger) error {
	changed, err := client.Reload()
	if err != nil {
		return fmt.Errorf("the secrets for Consul: %w", err)
	}
	if changed {
		log.Info("Using the new secrets for Consul")
	}
	return nil
}

// closed says why calls that change something are refused: because anybody on the network could make them without
// credentials. It reads the web configuration anew each time, as the server does.
func (o runOptions) closed() error {
	if *o.web.WebSystemdSocket && !authenticates(*o.web.WebConfigFile) {
		return errors.New("governor listens on a systemd socket, which may not be loopback, and asks for no credentials")
	}
	for _, listen := range *o.web.WebListenAddresses {
		if !isLoopback(listen) && !authenticates(*o.web.WebConfigFile) {
			return fmt.Errorf("governor listens on %s, which is not loopback, and asks for no credentials", listen)
		}
	}
	return nil
}

func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// authenticates says whether the web configuration admits only users with a password or a certificate.
func authenticates(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	var c struct {
		Users map[string]string `yaml:"basic_auth_users"`
		TLS   struct {
			ClientAuth string `yaml:"client_auth_type"`
		} `yaml:"tls_server_config"`
	}
	return yaml.Unmarshal(text, &c) == nil && (len(c.Users) > 0 || c.TLS.ClientAuth == "RequireAndVerifyClientCert")
}

// groupsOf pairs each group of the sensor with the specs of its services.
func groupsOf(sensor *signals.Sensor, config *configs.Config) ([]daemon.Group, error) {
	specs := config.Specs()
	byName := map[string]control.Spec{}
	for _, s := range specs {
		byName[s.Service] = s
	}
	var groups []daemon.Group
	for _, g := range sensor.Groups() {
		group := daemon.Group{Sensor: g}
		for _, name := range g.Services() {
			spec, ok := byName[name]
			if !ok {
				return nil, fmt.Errorf("the sensor measures %q, which is not configured", name)
			}
			group.Specs = append(group.Specs, spec)
			group.Learned = group.Learned || config.Learns(name)
		}
		groups = append(groups, group)
	}
	return groups, nil
}

func dependency(h signals.Health) api.Dependency {
	d := api.Dependency{Address: h.Address, OK: h.OK, Error: h.Error, Latency: control.Number(math.NaN())}
	switch {
	case !h.LastOK.IsZero():
		d.LastOK, d.Latency = &h.LastOK, control.Number(h.Latency.Seconds())
	case h.OK:
		d.OK, d.Error = false, "not asked yet"
	}
	return d
}
