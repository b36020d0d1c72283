package servers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// ConsulServer is a running Consul: a cluster of one server with its data on disk, so that keys, sessions and locks
// survive Kill and Restart as in a real cluster.
type ConsulServer struct {
	*Process
	port int
}

// Address returns host:port of the HTTP API, in the form of CONSUL_HTTP_ADDR.
func (c *ConsulServer) Address() string { return fmt.Sprintf("127.0.0.1:%d", c.port) }

// URL returns the base URL of the HTTP API.
func (c *ConsulServer) URL() string { return "http://" + c.Address() }

const consulNode = "test"

// StartConsul starts a server with its data in dir, which must be empty, and waits until it can be used. The caller
// ends it with Stop or Kill.
func StartConsul(ctx context.Context, dir string, logf func(format string, args ...any), opts ...Option) (
	*ConsulServer, error,
) {
	o := apply(opts)
	path, err := Binary(ctx, KindConsul, logf)
	if err != nil {
		return nil, err
	}
	c := &ConsulServer{}
	c.Process, err = startAnywhere(ctx, func() (*Process, error) {
		ports, err := freePorts(3)
		if err != nil {
			return nil, err
		}
		c.port = ports[0]
		config, err := json.MarshalIndent(map[string]any{
			"node_name":   consulNode,
			"bind_addr":   "127.0.0.1",
			"client_addr": "127.0.0.1",
			"ports": map[string]int{
				"http": ports[0], "server": ports[1], "serf_lan": ports[2],
				"serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1, "https": -1,
			},
			// A cluster of one elects itself: the timeouts for a cluster across machines would only add seconds.
			"performance":          map[string]int{"raft_multiplier": 1},
			"connect":              map[string]bool{"enabled": false},
			"peering":              map[string]bool{"enabled": false},
			"disable_update_check": true,
			"log_level":            "info",
		}, "", "  ")
		if err != nil {
			return nil, err
		}
		data, configFile := filepath.Join(dir, "consul-data"), filepath.Join(dir, "consul.json")
		if err := os.WriteFile(configFile, config, 0o644); err != nil {
			return nil, err
		}
		// An attempt that lost a port has recorded its address as the cluster's only member.
		if err := os.RemoveAll(data); err != nil {
			return nil, err
		}
		args := []string{"agent", "-server", "-bootstrap-expect=1", "-data-dir=" + data, "-config-file=" + configFile}
		if o.config != "" {
			extra := filepath.Join(dir, "consul-extra.hcl")
			if err := os.WriteFile(extra, []byte(o.config), 0o644); err != nil {
				return nil, err
			}
			args = append(args, "-config-file="+extra)
		}
		return &Process{
			Name: "consul", Path: path, Args: args, Log: filepath.Join(o.logDir(dir), "consul.log"), Ready: c.check,
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// check returns nil once there is a leader and the node's own health check passes: a session needs that check.
func (c *ConsulServer) check(ctx context.Context) error {
	status, body, err := get(ctx, c.URL()+"/v1/health/node/"+consulNode+"?consistent")
	if err != nil {
		return err
	}
	var checks []struct{ CheckID, Status string }
	if status != http.StatusOK || json.Unmarshal(body, &checks) != nil {
		return fmt.Errorf("consul answers %d: %s", status, body)
	}
	for _, check := range checks {
		if check.CheckID == "serfHealth" && check.Status == "passing" {
			return nil
		}
	}
	return fmt.Errorf("consul's node is not healthy yet: %s", body)
}
