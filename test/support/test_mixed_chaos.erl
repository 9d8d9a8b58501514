%% @doc Every function of the API at once, while all that may die dies.
%%
%% `run/1' is called in a node of its own. Its users each do one thing after another, chosen
%% at random, and compare each value with the one that must come. Meanwhile a storm kills and
%% stops Python processes, kills processes of the library, uses up the node's descriptors, loads
%% the library's code, starts and stops distribution, drains and restarts. When it is over nothing
%% may be left: no request on either side, process, row of a table, descriptor, memory.
%%
%% What the users do is in `test_mixed_requests', what the storm does in `test_mixed_storm', what may be left
%% in `test_mixed_leftovers'.
-module(test_mixed_chaos).

-include("test_mixed.hrl").

-export([run/1]).
-export_type([options/0, figures/0]).

-import(test_mixed_context, [note/2, note/3, now_ms/0, one_of/1, pause/1, seed/2, user_process/0]).
-import(test_mixed_requests, [same/2]).

-type options() :: #{
    milliseconds := pos_integer(),
    users := pos_integer(),
    %% How long from one blow of the storm to the next, in milliseconds.
    every := pos_integer(),
    seed := integer(),
    %% A variable of the environment that all descendants of this node have.
    mark := string(),
    node => node()
}.
-type figures() :: #{atom() | tuple() => term()}.

%% @doc Runs the chaos in the pool `default' of the running application. What was counted: what the users did
%% by its kind, `{kill, What}', and what must be 0 or empty: `lost', `doubled', `untold', `wrong', `left'.
-spec run(options()) -> figures().
run(Opts = #{milliseconds := Ms, users := Users, seed := Seed}) ->
    Counts = ets:new(counts, [public, {write_concurrency, true}]),
    [ets:insert(Counts, {Must, 0}) || Must <- [lost, doubled, untold, wrong]],
    Code = test_mixed_library:library(),
    [code:ensure_modules_loaded(Modules) || App <- [kernel, stdlib], {ok, Modules} <- [application:get_key(App, modules)]],
    ok = py:register_function(chaos_next, fun([N]) -> N + 1 end),
    ok = py:register_function(chaos_down, fun([N]) -> result(py:call(?PYTHON, down, [N])) end),
    Context = Opts#{counts => Counts, code => Code, stop => atomics:new(1, []), killer => test_mixed_storm:killer()},
    true = is_pid(maps:get(killer, Context)),
    %% Threads, modules and tables are there before it is measured.
    ok = users(Users, Seed, Context, fun() ->
        pause(2000),
        %% Distribution, too, leaves a program that looks up the names of hosts.
        _ = inet:gethostbyname("localhost"),
        test_mixed_storm:distribute(Context),
        pause(500),
        test_mixed_storm:distribute(Context)
    end),
    ok = py:restart_workers(default),
    test_mixed_leftovers:settled(),
    _ = test_mixed_leftovers:measured(Context),
    Before = test_mixed_leftovers:measured(Context),
    ets:delete_all_objects(Counts),
    [ets:insert(Counts, {Must, 0}) || Must <- [lost, doubled, untold, wrong]],
    atomics:put(maps:get(stop, Context), 1, 0),
    ok = users(Users, Seed, Context, fun() ->
        {Pid, Monitor} = spawn_monitor(fun() ->
            user_process(),
            seed(Seed, 0),
            test_mixed_storm:storm(now_ms() + Ms, now_ms(), Context)
        end),
        receive
            {'DOWN', Monitor, process, Pid, normal} -> ok;
            {'DOWN', Monitor, process, Pid, Why} -> note(wrong, {storm, Why}, Context)
        end
    end),
    Left = test_mixed_leftovers:left(Before, Context),
    Figures = maps:from_list([{Key, N} || {Key, N} <- ets:tab2list(Counts), not is_detail(Key)]),
    Details = [Detail || {{detail, _}, Detail} <- ets:tab2list(Counts)],
    exit(maps:get(killer, Context), kill),
    Figures#{seed => Seed, left => Left, details => Details, memory => {maps:get(memory, Before), after_all()}}.

%% If the application has ended there is nothing to measure, and `left' says so.
after_all() ->
    case py_pool:is_running() of
        true -> test_mixed_leftovers:memory();
        false -> #{node => 0, python => 0}
    end.

is_detail({detail, _}) -> true;
is_detail(_) -> false.

%% Starts the users, and returns when they have ended after `Fun'.
users(Number, Seed, Context = #{stop := Stop}, Fun) ->
    Users = [
        spawn_monitor(fun() ->
            user_process(),
            seed(Seed, N),
            user(Context)
        end)
     || N <- lists:seq(1, Number)
    ],
    Pools = spawn_monitor(fun() ->
        user_process(),
        pools(Context)
    end),
    Fun(),
    atomics:put(Stop, 1, 1),
    Timer = erlang:start_timer(2 * ?LOST_MS, self(), users),
    lists:foreach(
        fun({Pid, Monitor}) ->
            receive
                {'DOWN', Monitor, process, Pid, normal} -> ok;
                {'DOWN', Monitor, process, Pid, Why} -> note(wrong, {user, Why}, Context);
                {timeout, Timer, users} ->
                    self() ! {timeout, Timer, users},
                    note(untold, {user, process_info(Pid, [current_stacktrace, messages])}, Context),
                    exit(Pid, kill)
            end
        end,
        [Pools | Users]
    ),
    _ = erlang:cancel_timer(Timer),
    ok.

result({ok, Value}) -> Value;
result({error, Reason}) -> exit(Reason).

%%% Users.

user(Context = #{stop := Stop}) ->
    case atomics:get(Stop, 1) of
        1 ->
            ok;
        0 ->
            {Kind, Do} = one_of(test_mixed_requests:kinds()),
            Outcome = Do(),
            note(Kind, Context),
            judge(Kind, Outcome, Context),
            clean(Kind, Context),
            user(Context)
    end.

judge(_Kind, right, _Context) -> ok;
judge(_Kind, {error, draining}, Context) ->
    note(refused, Context),
    pause(10);
judge(_Kind, {error, {no_worker, _}}, Context) -> note(no_worker, Context);
judge(_Kind, {error, {worker_exit, _}}, Context) -> note(worker_exit, Context);
judge(_Kind, {error, {stream_exit, killed}}, Context) -> note(stream_exit, Context);
judge(Kind, {error, timeout}, Context) -> note(untold, Kind, Context);
judge(Kind, {Must, Detail}, Context) when Must =:= lost; Must =:= doubled; Must =:= untold ->
    note(Must, {Kind, Detail}, Context);
judge(Kind, allowed, Context) -> note({allowed, Kind}, Context);
judge(Kind, Outcome, Context) -> note(wrong, {Kind, Outcome}, Context).

%% What comes after the end. The answer to a cast may come whenever it likes, once.
clean(Kind, Context) ->
    receive
        {<<"cast">>, N} ->
            case erase({cast, N}) of
                undefined -> note(doubled, {cast, N}, Context);
                true -> note(cast_answered, Context)
            end,
            clean(Kind, Context);
        Message ->
            note(doubled, {after_end, Kind, Message}, Context),
            clean(Kind, Context)
    after 0 -> ok
    end.

%%% Pools and workers that come and go.

pools(Context = #{stop := Stop}) ->
    case atomics:get(Stop, 1) of
        1 ->
            ok;
        0 ->
            Opts = #{python_path => [path()]},
            judge(own_worker, own_worker(Opts), note_first(own_worker, Context)),
            judge(own_pool, own_pool(Opts#{workers => 1}), note_first(own_pool, Context)),
            clean(pools, Context),
            pause(500),
            pools(Context)
    end.

note_first(Kind, Context) ->
    note(Kind, Context),
    Context.

path() ->
    #{default := #{python_path := [Path]}} = element(2, application:get_env(erlang_python, pools)),
    Path.

own_worker(Opts) ->
    {Pid, Monitor} = spawn_monitor(fun() ->
        user_process(),
        case py:start_worker(Opts) of
            {ok, Worker} ->
                process_flag(trap_exit, true),
                Outcome = same(7, py:call(?PYTHON, echo, [7], #{}, #{pool => Worker})),
                ok = py:stop_worker(Worker),
                exit({outcome, Outcome});
            {error, _} ->
                exit({outcome, allowed})
        end
    end),
    receive
        {'DOWN', Monitor, process, Pid, {outcome, {error, {no_pool, _}}}} -> allowed;
        {'DOWN', Monitor, process, Pid, {outcome, Outcome}} -> Outcome;
        %% It is linked to the worker.
        {'DOWN', Monitor, process, Pid, _} -> allowed
    after 2 * ?LOST_MS ->
        {untold, process_info(Pid, current_stacktrace)}
    end.

own_pool(Opts) ->
    case py:start_pool(chaos_own, Opts) of
        {ok, _} ->
            Outcome = same([0, 1, 2], py:stream(?PYTHON, count, [3], #{}, #{pool => chaos_own})),
            stop_pool(chaos_own, 100),
            Outcome;
        {error, _} ->
            stop_pool(chaos_own, 100),
            allowed
    end.

stop_pool(Name, Times) ->
    _ = py:stop_pool(Name),
    case lists:member(Name, py_pool:names()) of
        true when Times > 0 ->
            pause(50),
            stop_pool(Name, Times - 1);
        true ->
            error({pool_stays, Name});
        false ->
            ok
    end.
