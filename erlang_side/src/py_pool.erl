%% @doc A pool: a named set of equal workers. Its manager keeps a row of the table
%% py_pools up to date; requests read the table and never pass through the
%% manager. The pool of a worker of one's own is named by its manager's pid.
%% @hidden
-module(py_pool).

-include("py_worker.hrl").

-export([is_running/0, names/0, choose/1, find/1, defaults/1, may_wait/2, no_worker/2, wait_until/1]).
-export([is_ready/1, is_draining/1, pool_load/1, about/1, counters/1, owner/1]).
-export([tables/0, claim/4, publish/4, publish_about/2, vacate/2, known/0, forget/1, forget/2]).
-export_type([name/0]).

-type name() :: atom() | pid().

-define(TABLE, py_pools).

-record(row, {
    name :: name(),
    manager :: pid(),
    opts :: py_options:pool_options(),
    defaults :: map(),
    workers = {} :: tuple(),
    %% The error of requests while there is no worker.
    reason :: py_error:reason(),
    %% Who started the manager; and whether that is py_pool_sup, which starts it again.
    parent :: pid() | undefined,
    is_ours :: boolean(),
    %% There is no worker for anybody while it is drained. Kept here for a manager that
    %% is restarted.
    draining = false :: boolean(),
    %% What py:info/1 tells that the manager knows.
    counters :: py_counters:counters(),
    about = #{exits => #{}, restarts => 0, failures => 0, last_exit => none, python => #{}} :: map()
}).

%% @doc Makes the tables.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {keypos, #row.name}, {read_concurrency, true}]),
    ok = py_workers:tables(),
    ok = py_counters:tables(),
    ok = py_request:tables(),
    ok = py_relays:tables(),
    py_journal:tables().

%% @doc Whether there is a table: the application runs.
-spec is_running() -> boolean().
is_running() ->
    ets:whereis(?TABLE) =/= undefined.

%% @doc Makes the row of a pool, whose manager calls this before anything else. `restarted'
%% if the row was there: its manager was killed, and processes that use the pool must find it
%% again.
-spec claim(name(), py_options:pool_options(), Parent :: {pid() | undefined, IsOurs :: boolean()}, py_error:reason()) ->
    new | restarted | {error, {already_started, pid()}}.
claim(Name, Opts, Started, Reason) ->
    forget_dead(),
    claim_row(Name, Opts, Started, Reason).

%% Nobody starts the manager of a worker of one's own again, and one that was killed has left its row.
forget_dead() ->
    Pids = ets:select(?TABLE, [{'$1', [{is_pid, {element, #row.name, '$1'}}], [{element, #row.name, '$1'}]}]),
    [forget(Pid) || Pid <- Pids, not is_process_alive(Pid)],
    ok.

claim_row(Name, Opts, Started = {Parent, IsOurs}, Reason) ->
    New = #row{
        name = Name,
        manager = self(),
        opts = Opts,
        defaults = maps:with([binaries, atoms, traceback, output, window, window_bytes], Opts),
        reason = Reason,
        parent = Parent,
        is_ours = IsOurs,
        counters = py_counters:new(pool)
    },
    case ets:insert_new(?TABLE, New) orelse row(Name) of
        true ->
            new;
        none ->
            claim_row(Name, Opts, Started, Reason);
        Old = #row{manager = Manager} ->
            case await_end(Old) of
                alive ->
                    {error, {already_started, Manager}};
                ok ->
                    %% Two may come for it: one of them finds the row as it was.
                    Known = [{1, row}, {#row.name, Name}, {#row.manager, Manager}],
                    Head = erlang:make_tuple(record_info(size, row), '_', Known),
                    case ets:select_replace(?TABLE, [{Head, [], [{const, as_before(Old, New)}]}]) of
                        1 -> restarted;
                        0 -> claim_row(Name, Opts, Started, Reason)
                    end
            end
    end.

%% The next manager may be started while the one before is about to end: its supervisor was
%% killed, or it stops its workers.
await_end(#row{manager = Manager, parent = Parent, reason = Reason}) ->
    case is_pid(Parent) andalso is_process_alive(Parent) andalso Reason =/= {worker_exit, stopped} of
        true ->
            case is_process_alive(Manager) of
                true -> alive;
                false -> ok
            end;
        false ->
            Monitor = monitor(process, Manager),
            receive
                {'DOWN', Monitor, process, _, _} -> ok
            end
    end.

%% @doc Updates a pool's row, which its manager has claimed: the workers that take work, and
%% the error of requests if there is none. A pool that is drained shows none of its workers.
-spec publish(name(), [#worker{}], py_error:reason(), Draining :: boolean()) -> ok.
publish(Name, Workers, Reason, Draining) ->
    %% First the mark: who has chosen a worker already finds it there.
    lists:foreach(fun(Worker) -> py_load:drain(Worker, Draining) end, Workers),
    {Shown, Why} =
        case Draining of
            true -> {[], draining};
            false -> {Workers, Reason}
        end,
    _ = ets:update_element(?TABLE, Name, [
        {#row.workers, list_to_tuple(Shown)}, {#row.reason, Why}, {#row.draining, Draining}
    ]),
    ok.

%% A pool that was drained stays so, and its counters go on.
as_before(Old = #row{draining = true, counters = Counters}, New) ->
    as_before(Old#row{draining = false}, New#row{draining = true, reason = draining, counters = Counters});
as_before(#row{counters = Counters}, New) ->
    New#row{counters = Counters}.

%% @doc Updates what `py:info/1' tells of a pool.
-spec publish_about(name(), map()) -> ok.
publish_about(Name, About) ->
    _ = ets:update_element(?TABLE, Name, {#row.about, About}),
    ok.

%% @doc A manager ends: there are no workers until it is restarted, which may have
%% happened already.
-spec vacate(name(), pid()) -> ok.
vacate(Name, Manager) ->
    case row(Name) of
        Row = #row{manager = Manager} ->
            ets:insert(?TABLE, Row#row{workers = {}, reason = {worker_exit, stopped}}),
            ok;
        _ ->
            ok
    end.

%% @doc The pools that py_pool_sup started and did not stop, with their options.
-spec known() -> [{atom(), py_options:pool_options()}].
known() ->
    [{Name, Opts} || #row{name = Name, opts = Opts, is_ours = true} <- ets:tab2list(?TABLE)].

%% @doc The counters of a pool.
-spec counters(name()) -> py_counters:counters() | none.
counters(Name) ->
    case row(Name) of
        #row{counters = Counters} -> Counters;
        none -> none
    end.

%% @doc A pool's manager, and who started that.
-spec owner(name()) -> {pid(), pid() | undefined} | none.
owner(Name) ->
    case row(Name) of
        #row{manager = Manager, parent = Parent} -> {Manager, Parent};
        none -> none
    end.

%% @doc Deletes a pool's row and its journal.
-spec forget(name()) -> ok.
forget(Name) ->
    try
        ets:delete(?TABLE, Name),
        py_counters:forget(Name),
        py_journal:forget(Name)
    catch
        %% The top supervisor has ended, and the tables with it.
        error:badarg -> ok
    end.

%% @doc The same, if it is the row of this manager.
-spec forget(name(), Manager :: pid()) -> ok.
forget(Name, Manager) ->
    case row(Name) of
        #row{manager = Manager} -> forget(Name);
        _ -> ok
    end.

%% @doc The worker with the fewest requests in flight. A pool without a living worker says at
%% once why.
-spec choose(name()) -> {ok, #worker{}} | {error, py_error:reason()}.
choose(Name) ->
    %% By element, here and for the defaults: a copy of the whole row takes three times as long.
    try
        case ets:lookup_element(?TABLE, Name, #row.workers) of
            {} -> {error, ets:lookup_element(?TABLE, Name, #row.reason)};
            {Worker} -> {ok, Worker};
            Workers -> {ok, least_loaded(Workers)}
        end
    catch
        error:badarg when is_pid(Name) -> choose_worker(Name);
        error:badarg -> {error, {no_pool, Name}}
    end.

%% A worker of a pool, as py:info/1 lists it.
choose_worker(Pid) ->
    case py_workers:find(Pid) of
        {Worker, _Pool} -> {ok, Worker};
        none -> {error, {no_pool, Pid}}
    end.

%% @doc The same, and what the pool has for options that are not given.
-spec find(name()) -> {ok, #worker{}, map()} | {error, py_error:reason()}.
find(Name) ->
    case defaults(Name) of
        {ok, Defaults} ->
            case choose(Name) of
                {ok, Worker} -> {ok, Worker, Defaults};
                Error -> Error
            end;
        Error ->
            Error
    end.

least_loaded(Workers) ->
    First = element(1, Workers),
    least_loaded(Workers, tuple_size(Workers), First, py_load:requests(First)).

least_loaded(_Workers, 1, Best, _Load) ->
    Best;
least_loaded(Workers, N, Best, Load) ->
    Worker = element(N, Workers),
    case py_load:requests(Worker) of
        Less when Less < Load -> least_loaded(Workers, N - 1, Worker, Less);
        _ -> least_loaded(Workers, N - 1, Best, Load)
    end.

%% @doc Whether a request would be taken now.
-spec is_ready(name()) -> boolean().
is_ready(Name) ->
    case row(Name) of
        #row{workers = Workers} -> Workers =/= {};
        none -> false
    end.

%% @doc How many requests the pool has under way, and how many workers it has for more.
-spec pool_load(name()) -> {non_neg_integer(), non_neg_integer()}.
pool_load(Name) ->
    case row(Name) of
        #row{workers = Workers} ->
            {lists:sum([max(0, py_load:requests(Worker)) || Worker <- tuple_to_list(Workers)]), tuple_size(Workers)};
        none ->
            {0, 0}
    end.

%% @doc What the pool has for options that are not given.
-spec defaults(name()) -> {ok, map()} | {error, py_error:reason()}.
defaults(Name) ->
    try
        {ok, ets:lookup_element(?TABLE, Name, #row.defaults)}
    catch
        error:badarg when is_pid(Name) -> defaults_of_worker(Name);
        error:badarg -> {error, {no_pool, Name}}
    end.

defaults_of_worker(Pid) ->
    case py_workers:find(Pid) of
        {_Worker, Pool} -> {ok, own_defaults(Pool)};
        none -> {error, {no_pool, Pid}}
    end.

own_defaults(Name) ->
    case defaults(Name) of
        {ok, Defaults} -> Defaults;
        {error, _} -> #{}
    end.

%% @doc Whether a request waits that found no worker for this reason, or could not be written to the one that it
%% had. If not, the reason to give: the pool may have gone meanwhile.
-spec may_wait(name(), py_error:reason()) -> true | {false, py_error:reason()}.
may_wait(_Name, draining) ->
    {false, draining};
may_wait(_Name, Reason = {no_pool, _}) ->
    {false, Reason};
may_wait(Name, Reason) ->
    case row(Name) of
        none -> {false, {no_pool, Name}};
        #row{opts = #{worker_wait := Ms}} when Ms > 0 -> true;
        #row{} -> {false, Reason}
    end.

%% @doc The reason of a request that does not wait where others do.
-spec no_worker(name(), py_error:reason()) -> py_error:reason().
no_worker(Name, Reason) ->
    case may_wait(Name, Reason) of
        true -> {no_worker, Reason};
        {false, Why} -> Why
    end.

%% @doc Until when, in milliseconds of monotonic time. The request counts as one that has waited.
-spec wait_until(name()) -> integer() | infinity.
wait_until(Name) ->
    case counters(Name) of
        none -> ok;
        Counters -> py_counters:waits(Counters)
    end,
    py_clock:deadline(worker_wait(Name)).

worker_wait(Name) ->
    case row(Name) of
        #row{opts = #{worker_wait := Ms}} -> Ms;
        _ -> 0
    end.

row(Name) ->
    try ets:lookup(?TABLE, Name) of
        [Row] -> Row;
        [] -> none
    catch
        error:badarg -> none
    end.

%% @doc Whether a pool takes nothing new.
-spec is_draining(name()) -> boolean().
is_draining(Name) ->
    case row(Name) of
        #row{draining = Draining} -> Draining;
        none -> false
    end.

%% @doc The names of the pools.
-spec names() -> [atom()].
names() ->
    try
        lists:sort([Name || Name <- ets:select(?TABLE, [{'$1', [], [{element, #row.name, '$1'}]}]), is_atom(Name)])
    catch
        error:badarg -> []
    end.

%% @doc What `py:info/1' tells of a pool that its row knows, and the pool's counters.
-spec about(name()) -> {map(), py_counters:counters()} | none.
about(Name) ->
    case row(Name) of
        #row{opts = #{workers := Size}, about = About, draining = Draining, counters = Counters} ->
            {About#{pool => Name, size => Size, draining => Draining}, Counters};
        none ->
            none
    end.
