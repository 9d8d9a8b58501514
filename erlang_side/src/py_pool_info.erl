%% @doc What `py:info/1' tells of a pool. It is read from tables: nobody is asked, and what hangs
%% does not hide the rest.
-module(py_pool_info).

-export([info/1]).
-export_type([info/0, python_info/0, request_info/0, worker_info/0]).

-type info() :: #{
    pool := py_pool:name(),
    %% How many workers there should be.
    size := pos_integer(),
    %% Those that are ready.
    workers := [worker_info()],
    %% How often a worker that had been ready was replaced.
    restarts := non_neg_integer(),
    %% Starts that failed since a worker was last ready.
    failures := non_neg_integer(),
    %% Why the last worker ended or could not start, or `none'.
    last_exit := none | py_error:reason(),
    %% Of the worker that became ready last; empty before.
    python := python_info(),
    %% How many pieces of code a restarted worker runs again.
    journal := non_neg_integer(),
    %% Whether it takes nothing new: py:drain/2 was called, and py:resume/1 was not.
    draining := boolean(),
    %% Since the pool was started: errors by their class (20 of them, then `other'), workers that
    %% ended by the reason or the limit, bytes of encoded values and results.
    counters := #{
        requests := non_neg_integer(),
        streams := non_neg_integer(),
        values := non_neg_integer(),
        bytes := non_neg_integer(),
        errors := #{atom() | binary() => pos_integer()},
        timeouts := non_neg_integer(),
        cancels := non_neg_integer(),
        restarts := #{term() => pos_integer()}
    }
}.
-type request_info() :: #{
    kind := call | eval | exec | stream,
    module := binary(),
    function := binary(),
    ref := reference(),
    %% Milliseconds since it was written, and when that was, in milliseconds of system time.
    age := non_neg_integer(),
    since := integer()
}.
-type worker_info() :: #{
    %% Accepted wherever the name of a pool is.
    pid := pid(),
    %% The Python process; its resident memory in bytes, read some seconds ago at most, and
    %% `undefined' outside Linux; and its version.
    os_pid := pos_integer() | undefined,
    rss := non_neg_integer() | undefined,
    python := binary() | undefined,
    %% Milliseconds since it became ready.
    age := non_neg_integer(),
    %% The ten oldest requests that are under way; calls of the last 100 ms are not among them.
    running := [request_info()],
    %% As those of the pool, with the number of errors.
    counters := #{py_counters:counter() => non_neg_integer()},
    %% Counted by the node: streams and other requests under way.
    streams := integer(),
    calls := non_neg_integer(),
    %% All requests that Python has not ended. Counted by Python, and sent when it changes:
    %% streams of plain generators that run and that
    %% wait for a thread, threads, those that wait for work, work that waits for one, and
    %% coroutines.
    requests => non_neg_integer(),
    sync_streams => non_neg_integer(),
    waiting_streams => non_neg_integer(),
    %% What waits for Python's main thread: code of exec, and all calls and sync streams
    %% of a worker with `thread => main'.
    waiting_main => non_neg_integer(),
    threads => non_neg_integer(),
    idle_threads => non_neg_integer(),
    queued => non_neg_integer(),
    tasks => non_neg_integer(),
    %% `timeout' if a sign of life is overdue.
    error => py_error:reason()
}.
-type python_info() :: #{
    %% Its version and its file.
    python => binary(),
    executable => binary(),
    %% What encodes terms.
    writer => accelerator | erlpack | python,
    %% The version of docs/protocol.md.
    protocol => pos_integer()
}.

%% @private
%% @doc The state of a pool, or of the pool of a worker.
-spec info(py_pool:name()) -> info() | {error, py_error:reason()}.
info(Name) ->
    case py_pool:about(Name) of
        {About, Counters} ->
            {Exits, Rest} = maps:take(exits, About),
            Counted = (py_counters:read(Counters))#{errors => py_counters:errors(Name), restarts => Exits},
            Rest#{counters => Counted, journal => py_journal:length(Name), workers => py_workers:infos(Name)};
        none when is_pid(Name) ->
            case py_workers:find(Name) of
                {_, Pool} -> info(Pool);
                none -> {error, {no_pool, Name}}
            end;
        none ->
            {error, {no_pool, Name}}
    end.
