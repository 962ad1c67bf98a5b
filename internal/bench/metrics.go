package bench

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// open asks the server how many commands have not ended.
func (b *commands) open(ctx context.Context) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.server.http+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+b.server.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "wilco_commands_open "); ok {
			v, err := strconv.ParseFloat(value, 64)
			return int64(v), err
		}
	}
	return 0, fmt.Errorf("the server's metrics have no wilco_commands_open (%s)", res.Status)
}
