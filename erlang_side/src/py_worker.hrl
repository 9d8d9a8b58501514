%% What a request needs to know of the worker that it goes to. Rows of the
%% table py_pools hold a tuple of these.
-record(worker, {
    pid :: pid(),
    port :: port(),
    %% What is under way, see py_load.
    load :: py_load:load(),
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

-define(DOMAIN, [erlang_python]).
%% The metadata of what is logged: Elixir's logger prints a report as it is, unless it is given how.
-define(LOG_META, #{domain => ?DOMAIN, report_cb => fun py_log:report/1}).
