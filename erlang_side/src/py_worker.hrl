%% What a request needs to know of the worker that it goes to. Rows of the
%% table py_pools hold a tuple of these.
-record(worker, {
    pid :: pid(),
    port :: port(),
    %% Two counters: requests in flight (streams and calls), and streams. The third is 1
    %% while the pool is drained: whoever has counted a request takes it back then.
    %% The process that sends a request adds; the worker subtracts when Python says
    %% that the request has ended, so an abandoned request still counts.
    load :: atomics:atomics_ref(),
    max_streams :: pos_integer(),
    kill_after :: timeout(),
    %% Whether functions of the node that a request came from may be called.
    caller_functions = true :: boolean(),
    pool = undefined :: undefined | py_pool:name(),
    %% The pool's and its own, see py_counters.
    counters = none :: none | {py_counters:counters(), py_counters:counters()},
    %% Its calls and who waits for each, see py_callers.
    callers = none :: none | ets:tid()
}).

-define(LOAD_REQUESTS, 1).
-define(LOAD_STREAMS, 2).
-define(LOAD_DRAINING, 3).
-define(DOMAIN, [erlang_python]).
%% The metadata of what is logged: Elixir's logger prints a report as it is, unless it is told how.
-define(LOG_META, #{domain => ?DOMAIN, report_cb => fun py_log:report/1}).
