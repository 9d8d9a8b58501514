%% @doc How a request waits that found no worker in a pool of this node. The process that runs it looks
%% for one again by the message `{find_worker, Route}'.
%% @hidden
-module(py_wait).

-include("py_cluster.hrl").

-export([not_found/3, queue_time/1]).
-export_type([wait/0]).

%% How often a request that waits for a worker checks for one. A larger number lets it wait for
%% longer than it must, a smaller one costs more while a pool has no worker.
-define(POLL_MS, 10).

-type wait() :: none | {Since :: integer(), Until :: py_clock:deadline()}.
%% Since when it waits, in native units, and until when.

%% @doc No worker for it here. A request for this node alone waits for one.
-spec not_found(py_cluster:route(), py_error:reason(), wait()) -> {wait, wait()} | {error, py_error:reason()} | elsewhere.
not_found(Route = #route{pool = Pool, to = {node, _}}, Reason, none) ->
    not_found(Route, Reason, {erlang:monotonic_time(), py_pool:wait_until(Pool)});
not_found(Route = #route{pool = Pool, to = {node, _}}, Reason, Wait = {_Since, Until}) ->
    case py_pool:may_wait(Pool, Reason) of
        true ->
            case py_clock:left(Until) > 0 of
                true ->
                    _ = erlang:send_after(?POLL_MS, self(), {find_worker, Route}),
                    {wait, Wait};
                false ->
                    {error, {no_worker, Reason}}
            end;
        {false, Why} ->
            {error, Why}
    end;
not_found(_Route, _Reason, _Wait) ->
    elsewhere.

%% @doc How long it has waited, in native units.
-spec queue_time(wait()) -> non_neg_integer().
queue_time(none) -> 0;
queue_time({Since, _Until}) -> erlang:monotonic_time() - Since.
