package awsapi

import (
	"net/http"
	"slices"
	"strconv"
)

// Page cuts one page out of a list that is in order: what follows the item
// whose name is token, at most size of them. next is the token of the page
// behind, "" at the end. A token whose item is gone since continues where it
// would stand.
func Page[T any](all []T, token string, size int, name func(T) string) (page []T, next string) {
	if token != "" {
		i := slices.IndexFunc(all, func(t T) bool { return name(t) > token })
		if i < 0 {
			i = len(all)
		}
		all = all[i:]
	}
	if len(all) <= size {
		return all, ""
	}
	return all[:size], name(all[size-1])
}

// PageSize reads a page size: def where s is empty, else from 1 to limit.
func PageSize(s string, def, limit int) (int, error) {
	if s == "" {
		return def, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > limit {
		return 0, Refuse(http.StatusBadRequest, "InvalidRequestException", "the page size %q is not a number from 1 to %d", s, limit)
	}
	return n, nil
}
