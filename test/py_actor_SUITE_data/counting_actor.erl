%% A gen_server that keeps its state in a Python process of its own.
-module(counting_actor).
-behaviour(gen_server).

-export([start_link/1, add/1]).
-export([init/1, handle_call/3, handle_cast/2]).

start_link(Opts) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Opts, []).

add(Number) ->
    gen_server:call(?MODULE, {add, Number}).

init(Opts) ->
    {ok, Worker} = py:start_worker(Opts),
    {ok, Worker}.

handle_call({add, Number}, _From, Worker) ->
    {reply, py:call(counter, add, [Number], #{}, #{pool => Worker}), Worker}.

handle_cast(_, Worker) ->
    {noreply, Worker}.
