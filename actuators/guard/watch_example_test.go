package guard_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/source"
)

// The concurrency limit of the service "orders-db" is the size of a pool of connections.
func ExampleWatch_databasePool() {
	db := sql.OpenDB(noDatabase{}) // sql.Open("pgx", …)
	defer db.Close()
	ctx, end := context.WithCancel(context.Background())
	var settings source.Memory // &consul.Watcher{Client: client}
	if err := settings.Set(actuators.Setting{
		Schema: actuators.Schema, Service: "orders-db", Epoch: 1, Revision: 1, LeaseSeconds: 180,
		Concurrency: &actuators.Concurrency{Limit: 40, Ceiling: 80, LatencyTargetSeconds: 0.02, Fallback: 20, Min: 5, Max: 100},
	}); err != nil {
		log.Fatal(err)
	}

	err := guard.Watch(ctx, &settings, "orders-db", func(s actuators.Setting) {
		if s.Concurrency != nil {
			db.SetMaxOpenConns(s.Concurrency.Limit)
		}
		fmt.Println("connections:", db.Stats().MaxOpenConnections)
		end() // a service goes on: it runs Watch in a goroutine
	})
	fmt.Println(err)
	// Output:
	// connections: 40
	// <nil>
}

// noDatabase stands for a driver.
type noDatabase struct{}

func (noDatabase) Connect(context.Context) (driver.Conn, error) {
	return nil, errors.New("no database")
}
func (noDatabase) Driver() driver.Driver { return nil }
